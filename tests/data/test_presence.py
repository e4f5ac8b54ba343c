"""Missing images are found whether folders are listed or files are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from radlens.core.cohort import Cohort, make_cohort
from radlens.core.errors import DataError
from radlens.core.vocabulary import load_vocabulary
from radlens.data.presence import missing_images, require_images


def cohort_of(paths: list[str]) -> Cohort:
    table = pl.DataFrame({"image_id": [str(i) for i in range(len(paths))], "path": paths, "Edema": [1] * len(paths)})
    return make_cohort("c.csv", table, load_vocabulary("chexpert-14"))


def test_missing_images(tmp_path: Path) -> None:
    names = [f"many/{i}.png" for i in range(20)] + ["few/a.png", "few/b.png", "nowhere/a.png"]
    names += [f"nowhere2/{i}.png" for i in range(9)]
    gone = {"many/3.png", "many/17.png", "few/b.png"} | {name for name in names if name.startswith("nowhere")}
    for name in names:
        if name not in gone:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"")
    (tmp_path / "many/3.png").mkdir()  # a folder is not an image
    (tmp_path / "many/17.png").symlink_to("gone.png")
    cohort = cohort_of([str(tmp_path / name) for name in names])
    np.testing.assert_array_equal(missing_images(cohort), [name in gone for name in names])
    with pytest.raises(DataError, match=r"c\.csv: row 4: image .*many/3\.png does not exist \(13 of 32 images"):
        require_images(cohort)


def test_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("a.png").write_bytes(b"")
    Path("sub/b.png").write_bytes(b"")
    odd = ["a.png"] * 9 + ["sub/../a.png"] * 9 + ["./sub//b.png"] * 9
    cohort = cohort_of(odd)
    assert not missing_images(cohort).any()
    require_images(cohort)
