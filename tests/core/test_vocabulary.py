"""chexpert-14 as METHODS states it, and vocabularies of a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlens.core.errors import SpecError
from radlens.core.vocabulary import load_vocabulary, vocabulary_from_dict

OWN = """
name = "bones"
no_finding = "Normal"
[[label]]
name = "Normal"
positive = ["a normal bone"]
negative = ["an abnormal bone"]
[[label]]
name = "Osteophyte"
domain = "Joint"
positive = ["an osteophyte", "a bony spur"]
negative = ["no osteophyte"]
"""


def test_chexpert_14_in_its_order_and_domains() -> None:
    vocabulary = load_vocabulary("chexpert-14")
    assert vocabulary.names == (
        "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
        "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
        "Support Devices",
    )  # fmt: skip
    domains = vocabulary.domains
    assert domains["Cardiovascular"] == ("Enlarged Cardiomediastinum", "Cardiomegaly")
    assert (domains["Skeletal"], domains["Device"]) == (("Fracture",), ("Support Devices",))
    assert domains["Pulmonary"] == vocabulary.names[3:12]
    assert set(domains) == {"Cardiovascular", "Skeletal", "Device", "Pulmonary"}
    assert vocabulary.no_finding == "No Finding"
    prompts = [prompt for label in vocabulary.labels for prompt in label.positive + label.negative]
    assert len(prompts) == len(set(prompts))


def test_a_file_of_ones_own_works_the_same(tmp_path: Path) -> None:
    (tmp_path / "bones.toml").write_text(OWN)
    vocabulary = load_vocabulary("bones.toml", tmp_path)
    assert vocabulary == load_vocabulary(str(tmp_path / "bones.toml"))
    assert vocabulary.names == ("Normal", "Osteophyte")
    assert vocabulary.domains == {"Joint": ("Osteophyte",)}
    assert vocabulary.labels[1].positive == ("an osteophyte", "a bony spur")
    assert (len(vocabulary), vocabulary.index("Osteophyte")) == (2, 1)
    assert vocabulary_from_dict(vocabulary.to_dict()) == vocabulary


def test_shipped_round_trip() -> None:
    vocabulary = load_vocabulary("chexpert-14")
    assert vocabulary_from_dict(vocabulary.to_dict()) == vocabulary


def test_unknown_names() -> None:
    with pytest.raises(SpecError, match=r"unknown label 'Edem'. Did you mean 'Edema'\?"):
        load_vocabulary("chexpert-14").index("Edem")
    with pytest.raises(SpecError, match=r"unknown vocabulary 'chexpert14'. Did you mean 'chexpert-14'\?.* TOML file"):
        load_vocabulary("chexpert14")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("name =", "nam ="), r"unknown key 'nam'. Did you mean 'name'\?"),
        (('domain = "Joint"', 'domian = "Joint"'), r"unknown key 'label\.1\.domian'. Did you mean 'domain'\?"),
        (('positive = ["a normal bone"]', ""), r"key 'label\.0\.positive' is missing"),
        (('["a normal bone"]', '"a normal bone"'), r"label\.0\.positive: expected a list .*found 'a normal bone'"),
        (('["a normal bone"]', "[]"), r"label\.0\.positive: expected at least 1 entry"),
        (('["a normal bone"]', '[" "]'), r"label\.0\.positive\.0: expected text that is not empty"),
        (('"Osteophyte"', '"Normal"'), r"label 'Normal' stands twice"),
        (('no_finding = "Normal"', 'no_finding = "Norm"'), r"unknown no_finding label 'Norm'. Did you mean 'Normal'\?"),
        (("[[label]]", "[[label"), r"not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: tuple[str, str], sentence: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace(*change, 1))
    with pytest.raises(SpecError, match=sentence) as caught:
        load_vocabulary(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
