"""The command line as a user meets it: exit codes, one sentence on bad input, resuming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

LABELS = ("Cardiomegaly", "Edema", "Pleural Effusion")
VOCABULARY = "\n".join(
    ['name = "three"']
    + [
        f'[[label]]\nname = "{n}"\ndomain = "Chest"\npositive = ["{n.lower()}"]\nnegative = ["no {n.lower()}"]'
        for n in LABELS
    ]
)


@pytest.fixture
def site(tmp_path: Path, miniature: Path) -> Path:
    """A user's folder: 40 small films of 20 patients, a table, a vocabulary, a study file."""
    generator = np.random.default_rng(0)
    (tmp_path / "films").mkdir()
    rows = []
    for i in range(40):
        truth = {label: int(generator.random() < 0.4) for label in LABELS}
        film = generator.integers(0, 60, (40, 48)) + 90 * truth["Cardiomegaly"]
        Image.fromarray(film.astype(np.uint8)).save(tmp_path / "films" / f"{i:03}.png")
        rows.append({"file": f"{i:03}.png", "patient": f"p{i // 2}"} | truth)
    pl.DataFrame(rows).write_csv(tmp_path / "labels.csv")
    (tmp_path / "three.toml").write_text(VOCABULARY)
    write_study(tmp_path, miniature)
    return tmp_path


def write_study(folder: Path, model: Path, **changes: Any) -> None:
    cohort = {
        "dataset": "table",
        "table": "labels.csv",
        "images": "films",
        "image_column": "file",
        "patient_column": "patient",
        "vocabulary": "three.toml",
    }
    values: dict[str, Any] = {
        "name": "site",
        "cohort": cohort,
        "split": {"train": 0.5, "val": 0.25, "test": 0.25},
        "model": {"path": str(model)},
        "settings": ["zero-shot", "linear-probe"],
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(values | changes))


def radlens(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "radlens.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The same entry point within this process, which spares the imports."""
    from radlens.cli import main

    monkeypatch.setattr(sys, "argv", ["radlens", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out + captured.err


def one_sentence(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("radlens: ")]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


def test_a_run_ends_with_the_reports_path_and_code_0(site: Path) -> None:
    done = radlens("run", "study.yaml", "--out", "out", cwd=site)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str((site / "out" / "report.html").resolve())
    page = (site / "out" / "report.html").read_text("utf-8")
    assert "Cardiomegaly" in page and "research use" in page.lower()


def test_wrong_usage_is_code_2(site: Path) -> None:
    assert radlens("run", cwd=site).returncode == 2


def spoil(site: Path, what: str, miniature: Path) -> list[str]:
    films = site / "films"
    extra: list[str] = []
    table = pl.read_csv(site / "labels.csv")
    match what:
        case "missing":
            (films / "007.png").unlink()
        case "corrupt":
            (films / "007.png").write_bytes(b"no picture at all")
        case "truncated":
            (films / "007.png").write_bytes((films / "007.png").read_bytes()[:300])
        case "zero":
            (films / "007.png").write_bytes(b"")
        case "dicom":
            (films / "007.png").write_bytes(b"\0" * 128 + b"DICM" + b"\1\2\3")
        case "column":
            extra = ["--set", "cohort.patient_column=patinet"]
        case "table":
            extra = ["--set", "cohort.table=labls.csv"]
        case "duplicate":
            pl.concat([table, table[3:4]]).write_csv(site / "labels.csv")
        case "words":
            changed = table.with_columns(pl.col("Edema").cast(pl.String).replace("1", "yes"))
            changed.write_csv(site / "labels.csv")
        case "key":
            extra = ["--set", "cohort.image_colum=file"]
        case "top key":
            extra = ["--set", "setings=[zero-shot]"]
        case "model":
            extra = ["--set", "model={name: biomedclop}"]
        case "setting":
            extra = ["--set", "settings=[zero-shoot]"]
        case "dataset":
            extra = ["--set", "cohort.dataset=tabel"]
        case "layer":
            extra = ["--set", "explain={layers: [blocks.5.mlp]}"]
        case "no weights":
            import shutil

            broken = shutil.copytree(miniature, site / "broken")
            (broken / "open_clip_model.safetensors").unlink()
            extra = ["--set", "model={path: broken}"]
        case "wrong tokenizer":
            import json
            import shutil

            broken = shutil.copytree(miniature, site / "broken")
            tokenizer = json.loads((broken / "tokenizer.json").read_text("utf-8"))
            tokens = tokenizer["model"]["vocab"]
            tokenizer["model"]["vocab"] = {t if t.startswith("[") else f"\u4e00{i}": i for t, i in tokens.items()}
            (broken / "tokenizer.json").write_text(json.dumps(tokenizer))
            extra = ["--set", "model={path: broken}"]
    return extra


BAD = {
    "missing": ("007.png", "row 8"),
    "corrupt": ("007.png", "row 8"),
    "truncated": ("007.png", "row 8"),
    "zero": ("007.png", "row 8"),
    "dicom": ("007.png", "row 8"),
    "column": ("patinet", "patient"),
    "table": ("labls.csv",),
    "duplicate": ("003.png", "4, 41"),
    "words": ("Edema", "'yes'"),
    "key": ("image_colum", "image_column"),
    "top key": ("setings", "settings"),
    "model": ("biomedclop", "biomedclip"),
    "setting": ("zero-shoot", "zero-shot"),
    "dataset": ("tabel", "table"),
    "layer": ("blocks.5.mlp", "blocks.5.norm1"),
    "no weights": ("broken", "open_clip"),
    "wrong tokenizer": ("broken", "token"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence_and_code_1(
    site: Path,
    miniature: Path,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    extra = spoil(site, what, miniature)
    monkeypatch.chdir(site)
    code, text = in_process(monkeypatch, capsys, "run", "study.yaml", "--out", "out", "--quiet", *extra)
    assert code == 1, text
    sentence = one_sentence(text)
    for word in BAD[what]:
        assert word in sentence, sentence
    assert not list(site.rglob("*.part"))


def test_bad_images_can_be_skipped_and_are_listed(site: Path) -> None:
    import json

    (site / "films" / "007.png").unlink()
    (site / "films" / "011.png").write_bytes(b"")
    done = radlens("run", "study.yaml", "--out", "out", "--skip-bad-images", cwd=site)
    assert done.returncode == 0, done.stderr
    facts = json.loads((site / "out" / "run.json").read_text("utf-8"))
    assert [(s["image_id"], s["row"]) for s in facts["skipped_images"]] == [("007.png", 8), ("011.png", 12)]
    assert facts["cohort"]["images"] == 38
    page = (site / "out" / "report.html").read_text("utf-8")
    assert "007.png" in page and "011.png" in page


def test_sixteen_bit_images_are_windowed_and_counted(site: Path) -> None:
    import json

    for i in range(40):
        path = site / "films" / f"{i:03}.png"
        deep = np.asarray(Image.open(path)).astype(np.uint16) * 20 + 1000
        Image.fromarray(deep).save(path)
    done = radlens("run", "study.yaml", "--out", "out", cwd=site)
    assert done.returncode == 0, done.stderr
    facts = json.loads((site / "out" / "run.json").read_text("utf-8"))
    assert facts["image_notes"]["images"] == 40
    assert "window" in (site / "out" / "report.html").read_text("utf-8")
    vectors = pl.read_csv(site / "out" / "tables" / "embedding_view.csv")
    # all white images would share one embedding
    assert vectors["x"].n_unique() > 5
    again = radlens("run", "study.yaml", "--out", "other", cwd=site)
    assert again.returncode == 0
    assert json.loads((site / "other" / "run.json").read_text("utf-8"))["image_notes"]["images"] == 40


def test_a_label_without_positives_in_a_split_is_said_and_not_an_error(site: Path) -> None:
    table = pl.read_csv(site / "labels.csv").with_columns(pl.lit(0).alias("Edema"))
    table.write_csv(site / "labels.csv")
    done = radlens("run", "study.yaml", "--out", "out", cwd=site)
    assert done.returncode == 0, done.stderr
    assert "Edema" in done.stderr
    rows = pl.read_csv(site / "out" / "tables" / "per_label.csv").filter(pl.col("label") == "Edema")
    assert rows["f1"].null_count() == rows.height and rows["auroc"].null_count() == rows.height


def test_a_run_folder_that_cannot_be_made(site: Path) -> None:
    (site / "taken").write_text("a file")
    done = radlens("run", "study.yaml", "--out", "taken/out", cwd=site)
    assert done.returncode == 1
    assert "taken" in one_sentence(done.stderr)


def test_no_space_left(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import errno

    def full(self: Path, target: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(site)
    monkeypatch.setattr(Path, "replace", full)
    code, text = in_process(monkeypatch, capsys, "run", "study.yaml", "--out", "out", "--quiet")
    assert code == 1
    assert "no space left" in one_sentence(text)
    assert not list(site.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_run_stopped_at_any_moment_goes_on(site: Path, kind: signal.Signals) -> None:
    command = [sys.executable, "-m", "radlens.cli", "run", "study.yaml", "--out", "out"]
    environment = os.environ | {"RADLENS_CACHE": str(site / "cache")}
    whole = subprocess.run(
        [*command[:-1], "whole"], cwd=site, env=os.environ, capture_output=True, timeout=300, check=True
    )
    assert whole.returncode == 0
    for seconds in (1.0, 4.0, 7.0, 10.0):
        process = subprocess.Popen(command, cwd=site, env=environment, stderr=subprocess.PIPE, text=True)
        time.sleep(seconds)
        process.send_signal(kind)
        _, told = process.communicate(timeout=120)
        if kind == signal.SIGINT and process.returncode == 1:
            assert "goes on from here" in told and "Traceback" not in told
    done = subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for table in ("per_label", "per_domain", "separability"):
        name = f"tables/{table}.csv"
        assert (site / "out" / name).read_bytes() == (site / "whole" / name).read_bytes()


def test_list_names_every_kind_of_part(site: Path) -> None:
    done = radlens("list", cwd=site)
    assert done.returncode == 0
    for name in ("table", "phantom", "biomedclip", "zero-shot", "linear-probe", "macro-f1", "grad-cam", "boxes-csv"):
        assert name in done.stdout


def test_data_check_counts_without_a_model(site: Path) -> None:
    done = radlens("data", "check", "study.yaml", "--set", "model={path: nowhere}", cwd=site)
    assert done.returncode == 0, done.stderr
    assert "40 images, 20 patients" in done.stdout and "Cardiomegaly" in done.stdout
