"""A table inside a zip archive, as Kaggle hands them out."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import polars as pl

from radlens.core.errors import DataError
from radlens.data import release

# no label table of a released data set is near it; a few kilobytes of zip can hold a terabyte
_LARGEST = 2_000_000_000


def read_zipped(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """`release.read_released`, for a table that may lie alone in a `.zip`.

    Nothing is written but the one member, under a name of our own. Raises `DataError` in one sentence for an archive
    that is damaged, locked, holds no table or several, or claims more than 2 GB.
    """
    if path.suffix.lower() != ".zip":
        return release.read_released(path, columns)
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            tables = [member for member in archive.infolist() if _is_table(member.filename)]
            if len(tables) != 1:
                found = ", ".join(member.filename for member in tables[:5]) or "none"
                raise DataError(
                    f"archive {path}: expected one table (.csv) in it, found {found}; unpack the one you mean."
                )
            member = tables[0]
            if member.flag_bits & 1:
                raise DataError(f"archive {path}: {member.filename} is locked with a password; unpack it first.")
            if member.file_size > _LARGEST:
                raise DataError(
                    f"archive {path}: {member.filename} claims {member.file_size:,} bytes, too many for a table."
                )
            aside = Path(folder) / "table.csv"
            # never more than the header claims is read, so the limit holds for a header that lies
            with archive.open(member) as packed, aside.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
            try:
                return release.read_released(aside, columns)
            except DataError as error:
                raise DataError(str(error).replace(str(aside), f"{path} ({member.filename})")) from error
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError) as error:
        raise DataError(f"archive {path} cannot be read ({error}); download it again.") from error


def _is_table(name: str) -> bool:
    pure = PurePosixPath(name)
    # macOS puts a shadow beside each file
    return pure.suffix.lower() == ".csv" and not pure.name.startswith(".") and "__MACOSX" not in pure.parts
