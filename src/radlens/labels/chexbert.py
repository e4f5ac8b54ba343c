"""CheXbert: a network that reads a report as a radiologist's labels would have it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from radlens.core.chexpert import FINDINGS
from radlens.core.errors import DataError, ModelError
from radlens.core.parts import Labeler, Progress, unheard
from radlens.core.registry import register
from radlens.core.reports import EVIDENCE, SECTIONS, LabelledReports, Reports, check_vocabulary
from radlens.core.store import Cache, fingerprint, source_digest
from radlens.core.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from radlens.labels.chexbert_network import ChexbertNetwork
    from radlens.labels.chexbert_tokens import Tokenizer

CONDITIONS = (*FINDINGS, "No Finding")
"""The order of the network's heads."""
CLASSES = ("blank", "positive", "negative", "uncertain")
_VALUES = (None, 1, 0, -1)
_CHUNK = 512  # texts in one cache entry: what a killed run loses at most

Section = Literal["indication", "comparison", "findings", "impression"]


@register("labelers", "chexbert")
class Chexbert(Labeler):
    """CheXbert (Smit et al., EMNLP 2020), from its released weights.

    weights: path of `chexbert.pth` (github.com/stanfordmlgroup/CheXbert links it), or the same tensors as
    `.safetensors`. tokenizer: path of bert-base-uncased's `vocab.txt`, or of a folder that holds it; default: the local
    Hugging Face cache. sections: what is read, joined in this order; the impression alone is what the network was
    trained on. A report that is not divided into sections is read whole; one that is, and has none of these, is not
    assessed. batch_size: reports at once. device: auto, cpu, cuda or mps.
    """

    weights: str
    tokenizer: str | None = None
    sections: tuple[Section, ...] = Field(("impression",), min_length=1)
    batch_size: int = Field(32, ge=1)
    device: str = "auto"

    def label(self, reports: Reports, folder: Path, work: Path, progress: Progress = unheard) -> LabelledReports:
        """Label every report, from the cache in `work` where its text was read before by the same network."""
        vocabulary = load_vocabulary(self.vocabulary, folder)
        check_vocabulary(vocabulary, CONDITIONS, "chexbert")
        texts = self._texts(reports)
        unique = list(dict.fromkeys(text for text in texts if text is not None))
        if not unique:
            raise DataError(f"{reports.name}: no report has text in its {' or '.join(self.sections)}.")
        probabilities, unread = self._probabilities(unique, folder, Cache(work), progress)
        row_of = {text: row for row, text in enumerate(unique)}
        rows = np.array([-1 if text is None else row_of[text] for text in texts])
        wanted = [name for name in vocabulary.names if name in CONDITIONS]
        if unread.all():
            raise DataError(
                f"{reports.name}: CheXbert reads English and knows no word of {unique[0][:60]!r}, nor others."
            )
        silent = int((rows < 0).sum())
        rows[unread[rows] & (rows >= 0)] = -1
        strange = int((rows < 0).sum()) - silent
        table, evidence = _labelled(reports.table["study_id"], rows, probabilities, wanted)
        told = (
            (silent, f"reports have no {' or '.join(self.sections)}: not assessed by chexbert."),
            (strange, "reports hold no word that CheXbert knows: not assessed."),
        )
        notes = tuple(f"{count} of {len(reports)} {what}" for count, what in told if count)
        return LabelledReports(table, evidence, f"CheXbert on the {' and '.join(self.sections)}", notes=notes)

    def _texts(self, reports: Reports) -> list[str | None]:
        chosen = pl.concat_str([pl.col(name) for name in self.sections], separator=" ", ignore_nulls=True)
        divided = pl.any_horizontal(pl.col(name).is_not_null() for name in SECTIONS)
        text = pl.when(divided).then(chosen).otherwise(pl.col("report"))
        # cleaned as CheXbert cleans: line breaks and runs of white space become one blank
        clean = text.str.replace_all(r"\s+", " ").str.strip_chars()
        return reports.table.select(pl.when(clean != "").then(clean).alias("text"))["text"].to_list()

    def _probabilities(
        self, texts: Sequence[str], folder: Path, store: Cache, progress: Progress
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """(N, 14, 4) and (N,) True where no word is known; in chunks, nothing loaded where the cache has all."""
        from radlens.labels.chexbert_tokens import find_vocabulary, read_tokenizer

        weights = folder / Path(self.weights).expanduser()
        if not weights.is_file():
            raise ModelError(
                f"CheXbert's weights {weights} do not exist; fetch chexbert.pth, which "
                "https://github.com/stanfordmlgroup/CheXbert links, and name it with `weights:`."
            )
        words = find_vocabulary(self.tokenizer, folder)
        digests = store.file_digests([weights, words])
        for path, digest in zip((weights, words), digests, strict=True):
            if digest is None:
                raise ModelError(f"cannot read {path}; check its permissions.")
        code = source_digest(*(f"radlens.labels.chexbert{part}" for part in ("", "_network", "_tokens")))
        network = cache(self._loader(weights))
        tokenizer = cache(lambda: read_tokenizer(words))
        entries = []
        for start in range(0, len(texts), _CHUNK):
            chunk = texts[start : start + _CHUNK]
            key = fingerprint("chexbert", digests, code, chunk)
            entry, _ = store.arrays("labels", key, self._chunk(chunk, network, tokenizer, progress, start, len(texts)))
            entries.append(entry)
            progress(start + len(chunk), len(texts))
        return (
            np.concatenate([entry["probabilities"] for entry in entries]),
            np.concatenate([entry["unread"] for entry in entries]),
        )

    def _loader(self, weights: Path) -> Callable[[], ChexbertNetwork]:
        def load() -> ChexbertNetwork:
            from radlens.core.device import choose_device
            from radlens.labels.chexbert_network import load_network

            return load_network(weights, choose_device(self.device))

        return load

    def _chunk(
        self,
        texts: Sequence[str],
        network: Callable[[], ChexbertNetwork],
        tokenizer: Callable[[], Tokenizer],
        progress: Progress,
        offset: int,
        total: int,
    ) -> Callable[[], dict[str, npt.NDArray[Any]]]:
        def make() -> dict[str, npt.NDArray[Any]]:
            from radlens.labels.chexbert_network import infer

            rows = tokenizer()(texts)
            found = infer(network(), rows, self.batch_size, lambda done: progress(offset + done, total))
            return {"probabilities": found, "unread": np.array([tokenizer().is_unknown(row) for row in rows])}

        return make


def _labelled(
    studies: pl.Series, rows: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], wanted: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Label table and evidence; rows: of each study in `probabilities`, -1 where it has no text."""
    if not np.isfinite(probabilities).all():
        raise ModelError("CheXbert's weights give probabilities that are not numbers; fetch chexbert.pth again.")
    chosen, certainty = probabilities.argmax(axis=2), probabilities.max(axis=2)
    assessed = rows >= 0
    columns = [studies, pl.Series("assessed", assessed)]
    evidence = [pl.DataFrame(schema=EVIDENCE)]
    for name in wanted:
        head = CONDITIONS.index(name)
        picked = np.where(assessed, chosen[rows, head], 0)
        values = pl.Series(name, [_VALUES[i] for i in picked.tolist()], pl.Int8)
        columns.append(values)
        said = np.flatnonzero(picked)
        because = [
            f"class {CLASSES[picked[i]]}, p={_rounded_down(float(certainty[rows[i], head]))}" for i in said.tolist()
        ]
        decided = {"study_id": studies[said], "label": [name] * len(said), "value": values[said], "because": because}
        evidence.append(pl.DataFrame(decided, schema=EVIDENCE))
    return pl.DataFrame(columns), pl.concat(evidence)


def _rounded_down(probability: float) -> str:
    # 0.996 is not certain: never 1.00
    return f"{math.floor(probability * 100) / 100:.2f}"
