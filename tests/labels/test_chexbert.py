"""CheXbert against an independent rebuild: plain matrices, one text at a time, no padding, no transformers model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import BertTokenizer

from radlens.core.errors import DataError, ModelError
from radlens.core.reports import LabelledReports, Reports, make_reports
from radlens.labels import chexbert_network
from radlens.labels.chexbert import CONDITIONS, Chexbert
from radlens.labels.chexbert_tokens import find_vocabulary, read_tokenizer

WORDS = (
    *("the", "heart", "and", "lungs", "are", "normal", "with", "no", "pleural", "effusion", "of", "size", "there"),
    *("is", "a", "left", "right", "lower", "lobe", "opacity", "pneumonia", "edema", "mild", "acute", "cardio"),
    *("##pulmonary", "abnormality", "stable", "enlarged", "cannot", "be", "excluded", "xx", "##xx"),
)
TEXTS = [
    "The heart is  enlarged.\nNo pleural effusion. ",
    "No acute cardiopulmonary abnormality.",
    "There is a left lower lobe opacity; pneumonia cannot be excluded.",
    "Normal.",
    "MILD EDEMA, XXXX stable. Éclat",
    " ".join(["right lower lobe opacity and edema"] * 120),
]
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def write_vocabulary(path: Path, words: int = 30_522) -> Path:
    """A vocabulary of the size of bert-base-uncased's with its marks in their places."""
    lines = [f"[unused{row}]" for row in range(words)]
    for place, word in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1996: "the"}.items():
        lines[place] = word
    signs = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    further = dict.fromkeys([*signs, *(f"##{sign}" for sign in signs), *WORDS])
    further.pop("the")
    for place, word in enumerate(further, 2000):
        lines[place] = word
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def random_state(hidden: int, layers: int, inner: int, seed: int = 0) -> dict[str, Tensor]:
    """The 227 tensors of a checkpoint (at 12 layers), by their published names, with random values."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def linear(name: str, rows: int, columns: int, scale: float = 0.05) -> None:
        state[f"{name}.weight"] = torch.randn(rows, columns, generator=generator) * scale
        state[f"{name}.bias"] = torch.randn(rows, generator=generator) * 0.1

    def norm(name: str) -> None:
        state[f"{name}.weight"] = 1 + torch.randn(hidden, generator=generator) * 0.1
        state[f"{name}.bias"] = torch.randn(hidden, generator=generator) * 0.1

    for name, rows in (("word", 30_522), ("position", 512), ("token_type", 2)):
        state[f"bert.embeddings.{name}_embeddings.weight"] = torch.randn(rows, hidden, generator=generator)
    norm("bert.embeddings.LayerNorm")
    for layer in range(layers):
        block = f"bert.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{block}.attention.self.{part}", hidden, hidden)
        linear(f"{block}.attention.output.dense", hidden, hidden)
        norm(f"{block}.attention.output.LayerNorm")
        linear(f"{block}.intermediate.dense", inner, hidden)
        linear(f"{block}.output.dense", hidden, inner)
        norm(f"{block}.output.LayerNorm")
    linear("bert.pooler.dense", hidden, hidden)
    for head in range(14):
        linear(f"linear_heads.{head}", 2 if head == 13 else 4, hidden, 0.15)
    return state


def rebuilt(state: dict[str, Tensor], tokens: list[int], heads: int) -> list[Tensor]:
    """Probabilities of each head for one text."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]

    at = "bert.embeddings"
    x = state[f"{at}.word_embeddings.weight"][tokens] + state[f"{at}.token_type_embeddings.weight"][0]
    x = norm(f"{at}.LayerNorm", x + state[f"{at}.position_embeddings.weight"][: len(tokens)])
    size = x.shape[1] // heads
    layers = 1 + max(int(found[1]) for name in state if (found := re.match(r"bert\.encoder\.layer\.(\d+)\.", name)))
    for layer in range(layers):
        block = f"bert.encoder.layer.{layer}"
        query, key, value = (
            linear(f"{block}.attention.self.{part}", x).reshape(len(tokens), heads, size).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        weights = (query @ key.transpose(1, 2) / size**0.5).softmax(-1)
        mixed = (weights @ value).transpose(0, 1).reshape(len(tokens), -1)
        x = norm(f"{block}.attention.output.LayerNorm", x + linear(f"{block}.attention.output.dense", mixed))
        inner = linear(f"{block}.intermediate.dense", x)
        inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        x = norm(f"{block}.output.LayerNorm", x + linear(f"{block}.output.dense", inner))
    return [functional.softmax(linear(f"linear_heads.{head}", x[0]), -1) for head in range(14)]


def published_tokens(vocabulary: Path, text: str) -> list[int]:
    """The steps of CheXbert's own script, with the tokenizer it uses."""
    tokenizer = BertTokenizer(vocab=str(vocabulary), do_lower_case=True)
    clean = re.sub(r"\s+", " ", text.strip().replace("\n", " ")).strip()
    pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(clean))
    ids = [101, *pieces, 102]
    return [*ids[:511], 102] if len(ids) > 512 else ids


def save_checkpoint(path: Path, state: dict[str, Tensor], **further: Any) -> Path:
    named = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"epoch": 7, "model_state_dict": named | further, "optimizer_state_dict": {"state": {}}}, path)
    return path


def reports_of(texts: list[str | None]) -> Reports:
    ids = [f"s{row}" for row in range(len(texts))]
    return make_reports("texts", pl.DataFrame({"study_id": ids, "impression": texts}, schema_overrides=_TEXT))


_TEXT = {"impression": pl.String}


def expected(
    state: dict[str, Tensor], vocabulary: Path, heads: int, texts: Sequence[str] = TEXTS
) -> np.ndarray[Any, Any]:
    """(N, 14, 4) probabilities."""
    rows = [rebuilt(state, published_tokens(vocabulary, text), heads) for text in texts]
    return np.stack([[functional.pad(p, (0, 4 - len(p))).numpy() for p in row] for row in rows])


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocabulary(tmp_path_factory.mktemp("words") / "vocab.txt")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Tensor]]]:
    """A checkpoint of the published architecture (438 MB, removed afterwards)."""
    state = random_state(768, 12, 3072)
    assert len(state) == 227
    path = tmp_path_factory.mktemp("published") / "chexbert.pth"
    yield save_checkpoint(path, state, **{"module.bert.embeddings.position_ids": torch.arange(512)[None]}), state
    path.unlink()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, Tensor]]:
    """A checkpoint that goes the same way through the code, of a narrower network."""
    monkeypatch.setattr(chexbert_network, "ARCHITECTURE", chexbert_network.ARCHITECTURE | SMALL)
    state = random_state(24, 2, 48)
    return save_checkpoint(tmp_path / "chexbert.pth", state), state


def label(weights: Path, vocabulary: Path, reports: Reports, work: Path, **options: Any) -> LabelledReports:
    labeler = Chexbert(weights=str(weights), tokenizer=str(vocabulary), device="cpu", **options)
    return labeler.label(reports, weights.parent, work)


def check_against(found: LabelledReports, probabilities: np.ndarray[Any, Any]) -> None:
    values = {0: None, 1: 1, 2: 0, 3: -1}
    for head, name in enumerate(CONDITIONS):
        assert found.table[name].to_list() == [values[i] for i in probabilities[:, head].argmax(1).tolist()], name


def test_the_published_architecture_agrees_with_plain_matrices(
    published: tuple[Path, dict[str, Tensor]], vocabulary: Path
) -> None:
    weights, state = published
    texts = [*TEXTS[:5], TEXTS[5][:400]]
    tokens = read_tokenizer(vocabulary)(texts)
    network = chexbert_network.load_network(weights, torch.device("cpu"))
    assert sum(p.numel() for p in network.parameters()) == 109_523_766
    found = chexbert_network.infer(network, tokens, batch_size=4)
    wanted = expected(state, vocabulary, 12, texts)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert len(np.unique(wanted.argmax(2), axis=0)) > 2, "the texts must differ, or nothing is shown"


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_padding_and_order_change_nothing(
    small: tuple[Path, dict[str, Tensor]], vocabulary: Path, tmp_path: Path, batch_size: int
) -> None:
    weights, state = small
    found = label(weights, vocabulary, reports_of(list(TEXTS)), tmp_path / "work", batch_size=batch_size)
    check_against(found, expected(state, vocabulary, 4))
    assert set(found.table.columns[:2]) == {"study_id", "assessed"} and found.table.width == 16
    assert set(found.table["No Finding"].to_list()) <= {1, None}
    decided = found.evidence.filter(pl.col("study_id") == "s2")
    assert decided.height == 14 - sum(v is None for v in found.table.row(2)[2:])
    assert decided["because"].str.contains(r"^class (positive|negative|uncertain), p=0\.\d\d$").all()


def test_tokens_are_those_of_the_published_script(vocabulary: Path) -> None:
    tokens = read_tokenizer(vocabulary)(TEXTS)
    assert tokens == [published_tokens(vocabulary, text) for text in TEXTS]
    assert len(tokens[5]) == 512 and tokens[5][-1] == 102
    assert read_tokenizer(vocabulary)([""]) == [[101, 102]]


def test_what_was_read_once_is_not_read_again(
    small: tuple[Path, dict[str, Tensor]], vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, _ = small
    seen: list[tuple[int, int]] = []
    texts = ["Normal.", "Normal.", "No pleural effusion.", "Normal."]
    labeler = Chexbert(weights=weights.name, tokenizer=str(vocabulary), device="cpu")
    first = labeler.label(
        reports_of(texts), weights.parent, tmp_path / "w", lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (2, 2), "equal texts are read once"

    def never(*_: Any) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr(chexbert_network, "load_network", never)
    again = labeler.label(reports_of(texts), weights.parent, tmp_path / "w")
    assert again.table.equals(first.table) and again.evidence.equals(first.evidence)
    with pytest.raises(AssertionError, match="loaded again"):
        labeler.label(reports_of(["There is edema."]), weights.parent, tmp_path / "w")


def test_only_the_chosen_sections_are_read(
    small: tuple[Path, dict[str, Tensor]], vocabulary: Path, tmp_path: Path
) -> None:
    weights, _ = small
    rows = {
        "study_id": ["a", "b", "c", "d", "e"],
        "findings": ["Edema.", "The heart is enlarged.", None, None, None],
        "impression": ["Normal.", None, None, None, "中"],
        "report": [None, "not read", "Normal.", None, None],
    }
    reports = make_reports("sections", pl.DataFrame(rows))
    found = label(weights, vocabulary, reports, tmp_path / "work")
    assert found.table["assessed"].to_list() == [True, False, True, False, False]
    assert found.table.row(0)[2:] == found.table.row(2)[2:], "a report without sections is read whole"
    assert all(value is None for value in found.table.row(1)[2:])
    assert found.notes == (
        "2 of 5 reports have no impression: not assessed by chexbert.",
        "1 of 5 reports hold no word that CheXbert knows: not assessed.",
    )
    both = label(weights, vocabulary, reports, tmp_path / "work", sections=("findings", "impression"))
    assert both.table["assessed"].to_list() == [True, True, True, False, False]
    with pytest.raises(DataError, match="no report has text in its indication"):
        label(weights, vocabulary, reports_of([None, "Normal."]), tmp_path / "work", sections=("indication",))


def test_safetensors_and_half_precision_are_read(
    small: tuple[Path, dict[str, Tensor]], vocabulary: Path, tmp_path: Path
) -> None:
    _, state = small
    half = {name: tensor.half() for name, tensor in state.items()}
    save_file(half, tmp_path / "chexbert.safetensors")
    found = label(tmp_path / "chexbert.safetensors", vocabulary, reports_of(list(TEXTS)), tmp_path / "work")
    check_against(found, expected({name: tensor.float() for name, tensor in half.items()}, vocabulary, 4))


def broken(kind: str, path: Path, state: dict[str, Tensor]) -> Path:
    """A checkpoint that is wrong in one way."""
    if kind == "missing":
        del state["bert.encoder.layer.1.output.dense.weight"]
    if kind == "unexpected":
        state["classifier.weight"] = torch.zeros(2)
    if kind == "shape":
        state["linear_heads.13.bias"] = torch.zeros(4)
    save_checkpoint(path, state)
    if kind == "no key":
        torch.save({"epoch": 3, "model": {}}, path)
    if kind == "code":
        torch.save({"model_state_dict": Path("x")}, path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    if kind == "gone":
        path.unlink()
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "lacks tensor bert.encoder.layer.1.output.dense.weight"),
        ("unexpected", "unexpected tensor classifier.weight"),
        ("shape", r"linear_heads.13.bias has shape \(4,\), expected \(2,\)"),
        ("no key", "expected the key 'model_state_dict', found 'epoch', 'model'"),
        ("code", "cannot be read as weights"),
        ("truncated", r"\(5000 bytes\) cannot be read as weights"),
        ("gone", "fetch chexbert.pth"),
    ],
)
def test_a_wrong_checkpoint_is_told_in_one_sentence(
    small: tuple[Path, dict[str, Tensor]], vocabulary: Path, tmp_path: Path, kind: str, words: str
) -> None:
    path = broken(kind, tmp_path / "wrong.pth", dict(small[1]))
    with pytest.raises(ModelError, match=words) as caught:
        label(path, vocabulary, reports_of(["Normal."]), tmp_path / "work")
    assert "\n" not in str(caught.value) and "wrong.pth" in str(caught.value)


def test_weights_of_no_number_and_a_device_that_is_not_there(
    small: tuple[Path, dict[str, Tensor]], vocabulary: Path, tmp_path: Path
) -> None:
    weights, state = small
    with pytest.raises(ModelError, match=r"device 'tpu' is not available on this machine; available: .*cpu"):
        Chexbert(weights=str(weights), tokenizer=str(vocabulary), device="tpu").label(
            reports_of(["Normal."]), tmp_path, tmp_path / "work"
        )
    state["linear_heads.3.bias"][0] = torch.nan
    save_checkpoint(weights, state)
    with pytest.raises(ModelError, match="probabilities that are not numbers"):
        label(weights, vocabulary, reports_of(["Normal."]), tmp_path / "work")


def test_a_vocabulary_of_another_model_is_refused(tmp_path: Path, vocabulary: Path) -> None:
    short = write_vocabulary(tmp_path / "short.txt", 28_996)
    with pytest.raises(ModelError, match="found 28996 word pieces, not 30522"):
        read_tokenizer(short)
    lines = vocabulary.read_text("utf-8").split("\n")
    lines[100], lines[1] = lines[1], lines[100]
    moved = tmp_path / "moved.txt"
    moved.write_text("\n".join(lines), "utf-8")
    with pytest.raises(ModelError, match=r"'\[UNK\]' at 1, not 100"):
        read_tokenizer(moved)
    bare = "\n".join(
        f"[unused{row}]" if row > 1996 else word for row, word in enumerate(vocabulary.read_text().split("\n")[:-1])
    )
    foreign = tmp_path / "foreign.txt"
    foreign.write_text(bare, "utf-8")
    with pytest.raises(ModelError, match="knows none of the words 'normal heart"):
        read_tokenizer(foreign)
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ModelError, match=r"image.txt cannot be read; expected vocab.txt of"):
        read_tokenizer(tmp_path / "image.txt")


def test_the_vocabulary_is_found_or_asked_for(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_vocabulary(str(vocabulary.parent), tmp_path) == vocabulary
    with pytest.raises(ModelError, match=r"nowhere does not exist; expected vocab.txt of https://huggingface.co"):
        find_vocabulary("nowhere", tmp_path)
    hub = tmp_path / "hub" / "models--google-bert--bert-base-uncased"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match="name it with `tokenizer: PATH`"):
        find_vocabulary(None, tmp_path)
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("abc")
    cached = write_vocabulary(hub / "snapshots" / "abc" / "vocab.txt")
    assert find_vocabulary(None, tmp_path) == cached
