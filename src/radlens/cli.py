"""The command line: parse, call, exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from radlens.core.errors import RadlensError, SpecError, unknown_name
from radlens.core.registry import ROOMS, parts
from radlens.progress import Teller

app = typer.Typer(
    name="radlens",
    help="Find out whether a vision-language model can be trusted on your own radiographs. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Look at the data of a study, or download a data set.", no_args_is_help=True)
app.add_typer(data_app, name="data")
console = Console(stderr=True)

Out = Annotated[Path | None, typer.Option("--out", help="Folder for the results.")]
Skip = Annotated[bool, typer.Option("--skip-bad-images", help="Go on without images that cannot be read.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result and warnings.")]


@app.command()
def demo(out: Out = None, quiet: Quiet = False) -> None:
    """A whole study on embedded phantoms with the embedded model; no network, about two minutes."""
    from radlens.demo import demo_study
    from radlens.study import run_study

    print_path(run_study(demo_study(), out or Path("radlens-demo"), Teller(console, quiet)))


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="The study file (YAML).")],
    out: Out = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one value of the study.")
    ] = None,
    skip_bad_images: Skip = False,
    quiet: Quiet = False,
) -> None:
    """Run a study; run it again to go on where it stopped."""
    from radlens.core.spec import read_study

    spec = read_study(study, change)
    from radlens.core.crew import crew
    from radlens.study import check_names, run_study

    if spec.compute.devices > 1 and "WORLD_SIZE" not in os.environ:
        from radlens.launch import launch

        check_names(spec)
        sys.exit(launch(sys.argv[1:], spec.compute.devices))
    place = out or Path("runs") / spec.name
    teller = Teller(console if crew().first else Console(quiet=True), quiet)
    page = run_study(spec, place, teller, skip_bad_images=skip_bad_images)
    if crew().first:
        print_path(page)


@app.command("list")
def list_parts(kind: Annotated[str | None, typer.Argument(help=" | ".join(ROOMS))] = None) -> None:
    """What exists: data sets, models, settings, metrics, saliency methods, formats."""
    kinds = [name for name in ROOMS if name != "loaders"]
    if kind is not None and kind not in ROOMS:
        raise SpecError(unknown_name("kind of part", kind, kinds))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("kind", "name", "what it is"):
        table.add_column(column, no_wrap=column != "what it is")
    for each in [kind] if kind else kinds:
        for name, part in parts(each).items():
            table.add_row(each, name, escape(part.summary))
    screen = Console()
    # a pipe gets a line a part
    (screen if screen.is_terminal else Console(width=200)).print(table)


@data_app.command("check")
def data_check(
    study: Annotated[Path, typer.Argument(help="The study file (YAML).")],
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one value of the study.")
    ] = None,
    skip_bad_images: Skip = False,
) -> None:
    """Read a study's cohort, look for its images, split it, and print the counts; no model is loaded."""
    from radlens.check import check_data
    from radlens.core.spec import read_study

    check_data(read_study(study, change), Console(), skip_bad_images)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A data set whose files are open to everybody, such as iu-xray.")],
    to: Annotated[Path, typer.Option("--to", help="Folder for its files.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="KIND", help="reports, png, dicom or labels; repeatable.")
    ] = None,
    keep_packed: Annotated[bool, typer.Option("--keep-packed", help="Do not unpack archives.")] = False,
    quiet: Quiet = False,
) -> None:
    """Download a data set; the same command goes on where a download stopped."""
    from radlens.data.fetch import fetch_dataset

    teller = Teller(console, quiet)
    fetch_dataset(name, to, kinds=only, extract=not keep_packed, tell=teller.say, bar=teller.bar)
    print_path(to)


@app.command()
def label(
    source: Annotated[
        str | None,
        typer.Argument(help="A study file, a table with reports, IU-Xray's reports (.tgz or folder), torchxrayvision."),
    ] = None,
    labeler: Annotated[str | None, typer.Option("--labeler", help="See radlens list labelers.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="CSV to write, its evidence beside it; with --compare a folder for all it finds."),
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the labeler.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="ROLE=COLUMN", help="A column of the table: study_id, report, findings, ..."),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option("--compare", help="Two label files to compare instead.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Label reports, or compare two label files."""
    from radlens.stages.label import compare_files, label_source, options_from

    if compare is not None:
        if source is not None or labeler is not None:
            raise typer.BadParameter("--compare takes two label files and nothing else")
        compare_files(*compare, Console(), out)
        return
    if source is None or labeler is None:
        raise typer.BadParameter("give a SOURCE and --labeler, or --compare A B")
    teller = Teller(console, quiet)
    place = out or Path("labels.csv")
    label_source(source, labeler, options_from(change, "--set"), options_from(column, "--column"), place, teller)
    print_path(place)


@app.command()
def predict(
    classifier: Annotated[Path, typer.Argument(help="A folder classifiers/<setting> of a run.")],
    images: Annotated[list[Path], typer.Argument(help="Images to score.")],
    out: Annotated[Path | None, typer.Option("--out", help="CSV to write; default: standard output.")] = None,
) -> None:
    """Score images with a classifier of a run."""
    from radlens.predict import predict_images

    table = predict_images(classifier, images)
    if out is None:
        typer.echo(table.write_csv(), nl=False)
        return
    from radlens.core.store import writing

    with writing(out) as aside:
        table.write_csv(aside)


@app.command()
def explain(
    classifier: Annotated[Path, typer.Argument(help="A folder classifiers/<setting> of a run.")],
    images: Annotated[list[Path], typer.Argument(help="Images to explain: PNG, JPEG, TIFF or DICOM.")],
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", metavar="A,B", help="Default: those called positive, else the three most probable."),
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--methods", metavar="A,B", help="Default: grad-cam; see radlens list saliency.")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", metavar="A,B", help="Default: -1,-3,-5, counted from the last block."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", metavar="SENTENCE", help="Explain a sentence too; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for maps, overlays and the page.")] = Path(
        "radlens-explain"
    ),
    quiet: Quiet = False,
) -> None:
    """Draw where a classifier of a run looks in images."""
    from radlens.explain_images import Wanted, explain_images

    asked = {"labels": split_list(labels), "methods": split_list(methods), "layers": split_list(layers)}
    wanted = Wanted(texts=text or (), **{key: values for key, values in asked.items() if values})
    print_path(explain_images(classifier, images, wanted, out, Teller(console, quiet)))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that were tested on the same images.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the tables as CSV, LaTeX and Markdown.")] = None,
    replicates: Annotated[int, typer.Option("--replicates", min=200, help="Resamples of patients.")] = 1000,
) -> None:
    """Settings of one or several runs side by side, with intervals of their differences."""
    from radlens.stages.compare import compare_runs, export, render

    found = compare_runs(runs, replicates)
    render(found, Console())
    if out is not None:
        export(found, out)
        print_path(out)


@app.command()
def audit(
    tables: Annotated[Path | None, typer.Argument(help="A CSV of published results; docs/how-to/audit.md.")] = None,
    example: Annotated[bool, typer.Option("--example", help="Audit the tables of Sadman et al. (2025).")] = False,
) -> None:
    """Look for contradictions in published tables of results."""
    from radlens.stages.audit import audit_file

    if (tables is None) == (not example):
        raise typer.BadParameter("give a file of tables, or --example")
    audit_file(tables, Console())


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write report.html of a run again."""
    from radlens.report.page import write_report

    print_path(write_report(run))


def split_list(values: list[str] | None) -> list[str]:
    """The entries of an option that is repeated, or whose values are divided by commas."""
    return [entry.strip() for value in values or [] for entry in value.split(",") if entry.strip()]


def print_path(path: Path) -> None:
    """The one line on standard output, for scripts."""
    typer.echo(str(path.resolve()))


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every command; `main` reads `--debug` itself."""


def main() -> None:
    """Entry point: exit code 0 done, 1 the user can mend it (one sentence), 2 wrong usage."""
    debug = "--debug" in sys.argv[1:]
    if debug:
        sys.argv.remove("--debug")
    try:
        app(standalone_mode=True)
    except RadlensError as error:
        if debug:
            raise
        console.print(f"radlens: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer makes exit code 130 of Ctrl-C
        if isinstance(end, SystemExit) and end.code != 130:
            raise
        console.print("radlens: stopped; the same command goes on from here.", highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
