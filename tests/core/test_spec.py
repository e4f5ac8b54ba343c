"""Study files: what is accepted, and the sentence for each typical mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from radlens.core.errors import SpecError
from radlens.core.spec import SplitSpec, StudySpec, build_part, read_study, study_from_dict

BASE: dict[str, Any] = {
    "name": "nih-dev",
    "cohort": {"dataset": "table", "table": "labels.csv"},
    "model": {"name": "radlens-tiny"},
    "settings": ["zero-shot", {"name": "linear-probe", "epochs": 5, "as": "short"}],
}


def test_a_study_with_its_defaults(tmp_path: Path) -> None:
    study = study_from_dict(BASE, tmp_path)
    assert study.cohort.options() == {"table": "labels.csv"}
    assert [(s.name, s.title, s.options()) for s in study.settings] == [
        ("zero-shot", "zero-shot", {}),
        ("linear-probe", "short", {"epochs": 5}),
    ]
    assert (study.split.train, study.split.val, study.split.test) == (0.7, 0.1, 0.2)
    assert study.folder == tmp_path and "folder" not in study.model_dump()
    again = study_from_dict(study.model_dump(mode="json", by_alias=True), tmp_path)
    assert again == study


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"setings": []}, r"unknown key 'setings'\. Did you mean 'settings'\? Known: name, cohort, split, model,"),
        ({"folder": "x"}, r"unknown key 'folder'\. Known: .*compute, seed\.$"),
        ({"split": {"trian": 0.7}}, r"unknown key 'split\.trian'\. Did you mean 'train'\? Known: train, val, test"),
        ({"model": {"nmae": "x"}}, r"unknown key 'model\.nmae'\. Did you mean 'name'\?"),
        ({"compute": {"batchsize": 3}}, r"unknown key 'compute\.batchsize'\. Did you mean 'batch_size'\?"),
        ({"evaluate": {"treshold": 1}}, r"unknown key 'evaluate\.treshold'\. Did you mean 'thresholds'\?"),
        ({"model": {}}, r"model: give exactly one of name, path, hub\.$"),
        ({"model": {"name": "a", "hub": "b"}}, r"model: give exactly one of name, path, hub\.$"),
        ({"model": "biomedclip"}, r"model: expected a mapping \(`key: value`\), found 'biomedclip'\.$"),
        ({"settings": "zero-shot"}, r"settings: expected a list \(`\[a, b\]`\), found 'zero-shot'\.$"),
        ({"settings": []}, r"settings: expected at least 1 entry, found an empty list\.$"),
        ({"settings": None}, r"settings: expected a list .*, found nothing\.$"),
        ({"settings": [3]}, r"settings\.0: expected a mapping .*, found 3\.$"),
        ({"settings": [{"rule": "pair"}]}, r"key 'settings\.0\.name' is missing\.$"),
        ({"settings": ["a", "a"]}, r"setting 'a' stands twice; give one of them another name with `as:`\.$"),
        ({"settings": ["b", {"name": "a", "as": "b"}]}, r"setting 'b' stands twice"),
        ({"settings": [{"name": "a", "as": "../x"}]}, r"settings\.0\.as: expected letters, .*found '\.\./x'\.$"),
        ({"split": {"train": 0.9}}, r"split: train \+ val \+ test must be 1, found 1\.2\.$"),
        ({"split": {"train": "many"}}, r"split\.train: expected a number, found 'many'\.$"),
        ({"split": {"train": 1.5}}, r"split\.train: expected a number less than 1, found 1\.5\.$"),
        ({"split": {"by": "film"}}, r"split\.by: expected 'patient', 'study' or 'image', found 'film'\.$"),
        ({"split": {"official": True, "file": "s.csv"}}, r"split: official and file exclude each other\.$"),
        ({"split": {"official": True, "repeats": 2}}, r"split: repeats draws splits at random, official does not\.$"),
        ({"split": {"fold": 1}}, r"split: fold is 1, but there are no folds\.$"),
        ({"split": {"folds": 3, "fold": 4}}, r"split: fold is 4, but there are 3 folds\.$"),
        ({"split": {"folds": 1}}, r"split\.folds: expected a number of at least 2, found 1\.$"),
        ({"cohort": {"dataset": "table", "labeler": {"no_finding": "x"}}}, r"'cohort\.labeler\.name' is missing\.$"),
        ({"compute": {"device": "gpu"}}, r"compute\.device: expected 'auto', 'cpu', 'cuda' or 'mps', found 'gpu'\.$"),
        ({"explain": {"annotations": "b.csv"}}, r"explain: annotations and format go together\.$"),
        ({"explain": {"layers": [1.5]}}, r"explain\.layers\.0: expected a whole number, found 1\.5\.$"),
        ({"explain": {"images": 0}}, r"explain\.images: expected a number of at least 1, found 0\.$"),
        ({"name": "a b"}, r"name: expected letters, digits.*, found 'a b'\.$"),
        ({"seed": "x"}, r"seed: expected a whole number, found 'x'\.$"),
        ({"cohort": {"table": "x"}}, r"key 'cohort\.dataset' is missing\.$"),
    ],
)
def test_mistakes_are_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence) as caught:
        study_from_dict(BASE | change, Path(), "study.yaml")
    assert str(caught.value).startswith("study.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["name", "cohort", "model", "settings"])
def test_missing_keys_are_named(key: str) -> None:
    with pytest.raises(SpecError, match=f"study: key '{key}' is missing"):
        study_from_dict({k: v for k, v in BASE.items() if k != key}, Path())


def test_part_options() -> None:
    assert build_part("settings", "linear-probe", {"epochs": 7}).epochs == 7
    with pytest.raises(SpecError, match=r"setting 'linear-probe': unknown key 'epoch'\. Did you mean 'epochs'\?"):
        build_part("settings", "linear-probe", {"epoch": 7})
    with pytest.raises(SpecError, match=r"setting 'zero-shot': rule: expected 'pair' or 'paper', found 'pairs'\."):
        build_part("settings", "zero-shot", {"rule": "pairs"})
    with pytest.raises(SpecError, match=r"unknown setting 'linear_probe'\. Did you mean 'linear-probe'\?"):
        build_part("settings", "linear_probe", {})


def _read(folder: Path, *overrides: str, text: str | None = None) -> StudySpec:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(BASE) if text is None else text)
    return read_study(path, list(overrides))


def test_overrides(tmp_path: Path) -> None:
    study = _read(tmp_path, "split.seed=3", "settings=[zero-shot]", "compute.device=cpu", "cohort.table=a=b.csv")
    assert (study.split.seed, len(study.settings), study.compute.device) == (3, 1, "cpu")
    assert study.cohort.options() == {"table": "a=b.csv"}
    assert study.folder == tmp_path


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed", r"--set expects key\.path=value, found 'seed'"),
        ("split..seed=1", r"--set expects key\.path=value"),
        ("=1", r"--set expects key\.path=value"),
        ("name.x=1", r"--set name\.x=1: 'name' is not a mapping"),
        ("seed=[", r"--set seed=\[: the value is not valid YAML"),
        ("split.sed=1", r"unknown key 'split\.sed'\. Did you mean 'seed'\?"),
    ],
)
def test_wrong_overrides(tmp_path: Path, override: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        _read(tmp_path, override)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: [\n", r"line 2 is not valid YAML"),
        ("- a\n", r"must be a mapping .*found list"),
        ("", r"must be a mapping .*found NoneType"),
        ("name: !!python/object/apply:os.system [ls]\n", r"not valid YAML"),
    ],
)
def test_files_that_are_no_study(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        _read(tmp_path, text=text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot read the study file .*: No such file"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="not UTF-8"):
        read_study(tmp_path / "b.yaml")


def test_folds_and_repeats_name_each_draw() -> None:
    split = SplitSpec(folds=3, repeats=2)
    assert split.draws == 6
    assert [(each.repeat, each.fold) for each in split.each()] == [(r, f) for r in (1, 2) for f in (1, 2, 3)]
    assert all(each.draws == 1 for each in split.each())
    assert SplitSpec(folds=3, fold=2).draws == 1 and SplitSpec().draws == 1
    assert [each.repeat for each in SplitSpec(repeats=2).each()] == [1, 2]


def test_seeds_and_sweeps_are_variants_with_names_of_their_own() -> None:
    study = study_from_dict(
        BASE
        | {
            "settings": [
                "zero-shot",
                {
                    "name": "linear-probe",
                    "as": "probe",
                    "epochs": 5,
                    "seeds": [0, 1],
                    "sweep": {"loss": ["bce", {"name": "focal", "gamma": 1}], "learning_rate": [0.001]},
                },
            ]
        },
        Path(),
    )
    plain, swept = study.settings
    assert [(v.title, v.seed, dict(v.options)) for v in plain.variants(7)] == [("zero-shot", 7, {})]
    found = swept.variants(7)
    assert [v.title for v in found] == [
        f"probe.loss-{loss}.learning_rate-0.001.seed-{seed}" for loss in ("bce", "focal") for seed in (0, 1)
    ]
    assert {v.group for v in found} == {f"probe.loss-{loss}.learning_rate-0.001" for loss in ("bce", "focal")}
    assert {v.family for v in found} == {"probe"}
    assert found[2].options == {"epochs": 5, "loss": {"name": "focal", "gamma": 1}, "learning_rate": 0.001}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seeds": [1, 1]}, "seeds names one of them twice"),
        ({"seeds": []}, "at least 1 entry"),
        ({"sweep": {"epochs": []}}, "sweep: epochs has no values"),
        ({"epochs": 3, "sweep": {"epochs": [1]}}, "epochs stands both as an option and in sweep"),
    ],
)
def test_bad_seeds_and_sweeps_are_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        study_from_dict(BASE | {"settings": [{"name": "linear-probe"} | options]}, Path())
