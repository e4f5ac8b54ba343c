"""Finding a model: by card, folder or hub id, with or without a network."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from radlens.core.errors import ModelError, SpecError
from radlens.core.registry import parts
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache, file_digest
from radlens.models import hub, loading
from radlens.models.card import read_card
from radlens.models.loading import resolve


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every connection is refused, and nothing was downloaded before."""

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize("name", sorted(parts("models")))
def test_every_card_is_whole(name: str) -> None:
    card = read_card(Path(parts("models")[name].module))
    assert parts("models")[name].summary == card.summary
    assert card.licence
    assert card.citation
    assert card.loader in parts("loaders")
    for file in card.files:
        assert all(len(digest) == 64 for digest in file.sha256)


def test_the_card_of_biomedclip_knows_the_published_files(shared: Path) -> None:
    import json

    golden = json.loads((shared / "biomedclip" / "golden_zero_shot.json").read_text())
    card = read_card(Path(parts("models")["biomedclip"].module))
    assert card.files[0].name == golden["weights"]["file"]
    assert card.files[0].sha256.keys() == golden["weights"]["known_sha256"].keys()
    assert card.files[0].bytes == 783734497


def test_a_folder_is_relative_to_the_study(miniature: Path, cache: Cache) -> None:
    source = resolve(ModelSpec(path="miniature"), miniature.parent, cache)
    assert source.location == miniature
    assert source.card["name"] == "miniature"
    assert source.card["weights"]["sha256"] == file_digest(miniature / "open_clip_model.safetensors")
    assert source.loader_name == "open-clip"


def test_the_environment_names_a_cards_folder(
    miniature: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setenv("RADLENS_BIOMEDCLIP", str(miniature))
    source = resolve(ModelSpec(name="biomedclip"), Path(), cache)
    assert source.location == miniature
    assert (source.card["name"], source.card["licence"]) == ("biomedclip", "MIT")
    assert source.card["weights"]["revision"].startswith("unknown to the card")
    monkeypatch.setenv("RADLENS_BIOMEDCLIP", str(miniature / "nowhere"))
    with pytest.raises(ModelError, match=r"RADLENS_BIOMEDCLIP names .*nowhere, which is not a folder"):
        resolve(ModelSpec(name="biomedclip"), Path(), cache)


CARD = """
summary = "a model"
title = "Model"
folder = "{folder}"
licence = "MIT"
citation = "us"
[measured]
macro_auroc = 0.8
[[files]]
name = "open_clip_model.safetensors"
bytes = 17
[files.sha256]
{digest} = "the revision of May"
"""


@pytest.mark.parametrize("known", [True, False])
def test_a_card_tells_the_revision(
    known: bool, miniature: Path, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = file_digest(miniature / "open_clip_model.safetensors") if known else "0" * 64
    path = tmp_path / "own.toml"
    path.write_text(CARD.format(folder=miniature, digest=digest))
    monkeypatch.setattr(loading, "get", lambda kind, name: path)
    source = resolve(ModelSpec(name="own"), Path(), cache)
    assert source.card["measured"] == {"macro_auroc": 0.8}
    revision = source.card["weights"]["revision"]
    assert revision == "the revision of May" if known else "its sha256 is none of the 1 known ones" in revision


def test_an_unknown_name_suggests_the_nearest(cache: Cache) -> None:
    with pytest.raises(SpecError, match="Did you mean 'biomedclip'"):
        resolve(ModelSpec(name="biomedclp"), Path(), cache)


@pytest.mark.parametrize("asked", [{"name": "biomedclip"}, {"hub": "hf-hub:somebody/some-model"}])
def test_without_a_network_the_sentence_comes_at_once(
    asked: dict[str, str], cache: Cache, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RADLENS_BIOMEDCLIP", raising=False)
    start = time.perf_counter()
    with pytest.raises(ModelError, match=r"cannot be reached \(.*\); download its files .*\{path: DIR\}") as caught:
        resolve(ModelSpec(**asked), Path(), cache)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - start < 20


def test_a_download_is_found_again_without_a_network(
    miniature: Path, cache: Cache, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **kwargs: str(miniature))
    assert resolve(ModelSpec(hub="hf-hub:somebody/some-model"), Path(), cache).location == miniature


def test_only_one_set_of_weights_is_downloaded(
    miniature: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[dict[str, Any]] = []

    def download(name: str, **options: Any) -> str:
        asked.append(options)
        return str(tmp_path if options.get("local_files_only") else miniature)

    listed = ["open_clip_pytorch_model.bin", "open_clip_model.safetensors", "training_log.txt"]
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda self, name, revision=None: listed)
    monkeypatch.setattr(hub, "_unreachable", lambda: None)
    assert hub.fetch("hf-hub:somebody/some-model") == miniature
    patterns = asked[-1]["allow_patterns"]
    assert "open_clip_model.safetensors" in patterns
    assert "open_clip_config.json" in patterns
    assert not {"open_clip_pytorch_model.bin", "training_log.txt"} & set(patterns)


@pytest.mark.parametrize("configured", [True, False])
def test_a_clip_of_transformers_is_downloaded_whole(
    configured: bool, miniature: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[dict[str, Any]] = []

    def download(name: str, **options: Any) -> str:
        asked.append(options)
        return str(tmp_path if options.get("local_files_only") else miniature)

    listed = ["pytorch_model.bin", "model.safetensors", "flax_model.msgpack"] + ["config.json"] * configured
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda self, name, revision=None: listed)
    monkeypatch.setattr(hub, "_unreachable", lambda: None)
    if not configured:
        with pytest.raises(ModelError, match=r"holds none of open_clip_model\.safetensors.* in no layout"):
            hub.fetch("hf-hub:somebody/some-model")
        return
    hub.fetch("hf-hub:somebody/some-model")
    patterns = set(asked[-1]["allow_patterns"])
    assert {"config.json", "preprocessor_config.json", "merges.txt", "model.safetensors"} <= patterns
    assert not {"pytorch_model.bin", "flax_model.msgpack"} & patterns


def test_a_hub_id_has_an_owner(cache: Cache) -> None:
    with pytest.raises(ModelError, match="written hf-hub:owner/name"):
        resolve(ModelSpec(hub="some-model"), Path(), cache)


def test_a_device_that_is_not_there() -> None:
    from radlens.core.device import choose_device

    assert choose_device("auto").type in {"cpu", "cuda", "mps"}
    with pytest.raises(ModelError, match=r"device 'tpu' is not available on this machine; available: .*cpu"):
        choose_device("tpu")
