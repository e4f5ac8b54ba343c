"""Annotation files from disk: JSON, XML and tables, without trusting what stands in them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from xml.etree.ElementTree import Element, ParseError

import polars as pl
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydantic import BaseModel, ConfigDict, ValidationError

from radlens.core.errors import DataError, unknown_name
from radlens.core.validation import first_problem

Document = TypeVar("Document", bound="Entries")


class Entries(BaseModel):
    """Base of what a JSON document must hold; keys that are not read are ignored, numbers are finite."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


def content_of(path: Path) -> bytes:
    """The bytes of a file. Raises `DataError` where it is missing, empty or not readable."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"annotation file {path} does not exist.") from error
    except OSError as error:
        raise DataError(f"annotation file {path} cannot be read: {error.strerror or error}.") from error
    if not content.strip():
        raise DataError(f"annotation file {path} is empty.")
    return content


def read_json(path: Path) -> Any:
    """Plain values of a JSON file. Raises `DataError` where it is none."""
    try:
        return json.loads(content_of(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"annotation file {path} is not valid JSON: {error}.") from error


def checked(where: Path | str, values: Any, document: type[Document]) -> Document:
    """Values as a document. where: the file, and the entry in it. Raises `DataError` naming both and the value."""
    try:
        return document.model_validate(values)
    except ValidationError as error:
        raise DataError(f"{where}: {first_problem(error, document)}") from error


def read_xml(path: Path, root: str) -> Element:
    """The root of an XML file. Raises `DataError`: no XML, another root, or a document type (it may hold entities)."""
    try:
        element: Element = fromstring(content_of(path), forbid_dtd=True)
    except DefusedXmlException as error:
        raise DataError(
            f"annotation file {path} declares a document type or entities, which are not read for safety; export it "
            "without."
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise DataError(f"annotation file {path} is not valid XML: {error}.") from error
    if element.tag != root:
        raise DataError(f"annotation file {path}: expected <{root}> at the root, found <{element.tag}>.")
    return element


def read_table(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """A CSV or TSV of text columns, those named among them. Raises `DataError`."""
    separator = "\t" if path.suffix.lower() in {".tsv", ".tab"} else ","
    try:
        table = pl.read_csv(path, separator=separator, infer_schema=False)
    except FileNotFoundError as error:
        raise DataError(f"annotation file {path} does not exist.") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"annotation file {path} is not a readable table: {reason}.") from error
    for column in columns:
        if column not in table.columns:
            raise DataError(f"{path}: " + unknown_name("column", column, table.columns))
    return table


def number(where: str, name: str, text: str | None) -> float:
    """A finite number. name: what holds it, `column 'x'`. Raises `DataError` where it is none."""
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: expected a number in {name}, found {text!r}.")
    return value


def files_of(path: Path, endings: Sequence[str], *, reader_folders: bool = False) -> Iterator[tuple[Path, str]]:
    """Annotation files, each with its reader: a file, or all of a folder and its sub-folders.

    reader_folders: the folder's sub-folders are readers and bear their names; else the reader is `reader`. Raises
    `DataError` where there is no file.
    """
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in endings and file.is_file())
        if not found:
            raise DataError(f"annotation folder {path} holds no file that ends in {' or '.join(endings)}.")
    elif reader_folders:
        raise DataError(f"expected a folder with one sub-folder a reader at {path}, as reader_folders says.")
    else:
        found = [path]
    for file in found:
        steps = file.relative_to(path).parts if reader_folders else ()
        if reader_folders and len(steps) < 2:
            raise DataError(f"{file} lies in no reader's sub-folder of {path}, as reader_folders says.")
        yield file, steps[0] if reader_folders else "reader"


def files_by_reader(path: Path, ending: str) -> Iterator[tuple[Path, str | None]]:
    """One file (reader None), or a folder with one file a reader, which bears the reader's name."""
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() == ending and file.is_file())
        if not found:
            raise DataError(f"annotation folder {path} holds no file that ends in {ending}.")
        yield from ((file, file.stem) for file in found)
    else:
        yield path, None
