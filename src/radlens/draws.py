"""A study once for each fold or repeat of its split, and what the draws have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl

from radlens.core.errors import StoreError
from radlens.core.run_folder import RunFolder
from radlens.core.spec import SplitSpec, StudySpec
from radlens.core.store import file_digest, fingerprint, source_digest, writing
from radlens.evaluate.repeats import mean_over_repeats
from radlens.progress import Teller
from radlens.report.draws import write_draws_report

RunOne = Callable[[StudySpec, Path], Path]


def run_draws(spec: StudySpec, out: Path, tell: Teller, run_one: RunOne) -> Path:
    """Run every draw of `spec.split` into a folder of its own inside `out`; write tables of their means and a page.

    Images are embedded once for all. Returns the path of the page. A draw that was done before is not done again.
    """
    draws = spec.split.each()
    run = RunFolder(out)
    run.tell(name=spec.name, draws=[draw_name(draw) for draw in draws])
    for number, draw in enumerate(draws, 1):
        tell.say(f"draw {number} of {len(draws)}: {draw_name(draw)}")
        run_one(spec.model_copy(update={"split": draw}), out / draw_name(draw))
    tables = {name: out / "tables" / f"{name}.csv" for name in ("overall", "per_label")}
    sources = [out / draw_name(draw) / "tables" / path.name for draw in draws for path in tables.values()]
    key = fingerprint(
        [file_digest(path) for path in sources],
        source_digest("radlens.draws", "radlens.report", "radlens.evaluate.repeats"),
    )

    def make() -> Iterable[Path]:
        for name, keys in (("overall", ["setting"]), ("per_label", ["setting", "label"])):
            frames = [_read(out / draw_name(draw) / "tables" / f"{name}.csv") for draw in draws]
            with writing(tables[name]) as aside:
                mean_over_repeats(frames, keys).write_csv(aside)
        return (*tables.values(), write_draws_report(out, [draw_name(draw) for draw in draws]))

    run.stage("summary", key, make)
    run.finish()
    return out / "report.html"


def draw_name(draw: SplitSpec) -> str:
    """Folder of one draw: `repeat-2-fold-1`."""
    parts = [f"repeat-{draw.repeat}"] if draw.repeat is not None else []
    parts += [f"fold-{draw.fold}"] if draw.fold is not None else []
    return "-".join(parts)


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreError(f"{path} cannot be read; run the study again.") from error
