"""The XML reports of IU-Xray (NLM's Open-i collection of Indiana University), read into a table."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import polars as pl
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from radlens.core.cohort import LeftOut
from radlens.core.errors import DataError
from radlens.core.reports import SECTIONS, Reports, make_reports
from radlens.core.store import file_digest
from radlens.data.archive_members import is_archive, members

INSTALLED = "torchxrayvision"
"""The word for the reports and the metadata that lie in an installed torchxrayvision."""
NOT_INDEXED = "No Indexing"
# a report of the collection takes 9 KB at most
_LARGEST = 4 << 20
_COLUMNS: dict[str, Any] = {
    "study_id": pl.String,
    "patient_id": pl.String,
    **dict.fromkeys(SECTIONS, pl.String),
    "codes": pl.List(pl.String),
    "automatic": pl.List(pl.String),
    "image_ids": pl.List(pl.String),
    "captions": pl.List(pl.String),
    "licence": pl.String,
    "file": pl.String,
}


def installed_file(name: str) -> Path | None:
    """A data file of the installed torchxrayvision, which is not imported; None where it is not installed."""
    spec = importlib.util.find_spec(INSTALLED)
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders if (path := Path(folder) / "data" / name).is_file()]
    return found[0] if found else None


def read_iu_xray_reports(source: str, folder: Path) -> Reports:
    """The reports in a .tgz, a folder of XML files (searched recursively), or an installed `torchxrayvision`.

    Columns beside those of every `Reports`: `automatic` (codes that a program found), `image_ids` and `captions` (lists
    of one length, in the order of the report), `licence`, `file`. `codes` are the MeSH `major` codes that people wrote
    down, as they stand ("normal", "Opacity/lung/base/left"); null where the only one is "No Indexing": not assessed.

    patient_id: the number of the report. The collection names no other: in its DICOM files `Patient ID` is this number
    for all 7,469 images, and each has one `Study Instance UID`. So the 3,851 patients that the files name are the 3,851
    studies with images, and whether somebody came twice cannot be told.

    A file that is broken, declares entities, or is no report is left out and counted. Raises `DataError` when none can
    be read, or when a report or an image has two files.
    """
    path = _place(source, folder)
    rows: list[dict[str, Any]] = []
    unreadable: list[str] = []
    for name, content in _files(path):
        row = _read(name, content)
        if isinstance(row, str):
            unreadable.append(f"{name}: {row}")
        else:
            rows.append(row)
    if not rows:
        why = f"the first of {len(unreadable)} is {unreadable[0]}" if unreadable else "it holds no .xml file"
        raise DataError(f"reports {path}: expected XML reports of IU-Xray, found none that can be read ({why}).")
    rows.sort(key=lambda row: (len(row["study_id"]), row["study_id"]))
    table = pl.DataFrame(rows, _COLUMNS)
    _refuse_twice(path, table.select("file", pl.col("study_id").alias("id")), "report")
    images = table.select("file", pl.col("image_ids").alias("id")).explode("id").drop_nulls("id")
    _refuse_twice(path, images, "image")
    source_facts = {"collection": "iu-xray", "reports": str(path)}
    reports = make_reports(
        "iu-xray", table, source=source_facts | ({"sha256": file_digest(path)} if path.is_file() else {})
    )
    silent, unindexed = sum(text is None for text in reports.text()), table["codes"].null_count()
    counts = {"reports": len(reports), "without_text": silent, "not_indexed": unindexed, "images": images.height}
    notes = (f"{silent} of {len(reports)} reports have neither findings nor impression.",) if silent else ()
    return replace(
        reports,
        source={**reports.source, "report_counts": counts},
        notes=notes,
        left_out=(LeftOut.of("XML files that cannot be read", unreadable),) if unreadable else (),
    )


def _place(source: str, folder: Path) -> Path:
    if source == INSTALLED:
        path = installed_file("NLMCXR_reports.tgz")
        if path is None:
            raise DataError(
                "reports: torchxrayvision, which carries the reports of IU-Xray, is not installed: "
                "pip install 'radlens[iu-xray]', or name NLMCXR_reports.tgz or a folder of its XML files."
            )
        return path
    path = folder / Path(source).expanduser()
    if not path.exists():
        raise DataError(
            f"reports {path} does not exist; name a .tgz, a folder of XML files, or the word torchxrayvision."
        )
    if path.is_file() and not is_archive(path):
        raise DataError(f"reports {path}: expected a .tgz, a folder of XML files, or the word torchxrayvision.")
    return path


def _files(path: Path) -> Iterator[tuple[str, bytes | str]]:
    """Name and content of every XML file, or the reason why there is none."""
    if path.is_file():
        for member in members(path):
            if _is_report(member.name):
                yield member.name, member.read() if member.size <= _LARGEST else "is larger than any report"
        return
    try:
        found = sorted(file for file in path.rglob("*") if _is_report(file.name) and file.is_file())
    except OSError as error:
        raise DataError(f"reports {path} cannot be read: {error.strerror}.") from error
    for file in found:
        name = str(file.relative_to(path))
        try:
            large = file.stat().st_size > _LARGEST
            yield name, "is larger than any report" if large else file.read_bytes()
        except OSError as error:
            yield name, f"cannot be opened ({error.strerror})"


def _is_report(name: str) -> bool:
    # macOS writes a shadow `._1.xml` beside every file of an archive
    base = name.rpartition("/")[2]
    return base.lower().endswith(".xml") and not base.startswith(".")


def _read(name: str, content: bytes | str) -> dict[str, Any] | str:
    """One report's row, or the reason why there is none."""
    if isinstance(content, str):
        return content
    try:
        root = fromstring(content)
    except DefusedXmlException:
        return "declares an entity or another file to read, which is refused"
    except ParseError as error:
        line, column = error.position
        return f"is not well-formed XML (line {line}, column {column + 1})"
    except (ValueError, LookupError) as error:
        return f"is in an encoding that cannot be read ({error})"
    found = root.find("uId")
    study_id = "" if found is None else (found.get("id") or "").strip()
    if not study_id:
        return "is XML but no report of the collection: it has no <uId id=...>"
    return {"study_id": study_id, "patient_id": study_id.upper().removeprefix("CXR"), "file": name} | _contents(root)


def _contents(root: Element) -> dict[str, Any]:
    sections: dict[str, str] = {}
    for part in root.iter("AbstractText"):
        text = " ".join("".join(part.itertext()).split())
        label = (part.get("Label") or "").strip().lower()
        if text and label in SECTIONS:
            sections[label] = f"{sections[label]} {text}" if label in sections else text
    major = _texts(root, "MeSH/major")
    images = [part for part in root.iter("parentImage") if (part.get("id") or "").strip()]
    return {
        **{name: sections.get(name) for name in SECTIONS},
        "codes": None if not major or NOT_INDEXED in major else major,
        "automatic": _texts(root, "MeSH/automatic"),
        "image_ids": [(part.get("id") or "").strip() for part in images],
        "captions": [" ".join((part.findtext("caption") or "").split()) for part in images],
        "licence": (root.findtext("licenseURL") or root.findtext("licenseType") or "").strip() or None,
    }


def _texts(root: Element, path: str) -> list[str]:
    return [text for part in root.iterfind(path) if (text := (part.text or "").strip())]


def _refuse_twice(path: Path, named: pl.DataFrame, what: str) -> None:
    twice = named.filter(pl.col("id").is_duplicated())
    if twice.height:
        first = twice["id"][0]
        files = twice.filter(pl.col("id") == first)["file"].to_list()
        raise DataError(
            f"reports {path}: {what} id {first!r} stands in {os.fsdecode(files[0])} and in {os.fsdecode(files[1])}; "
            f"expected each {what} once ({twice['id'].n_unique()} ids stand twice); remove the copies."
        )
