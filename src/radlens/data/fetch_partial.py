"""A download that is not finished: the bytes so far in `NAME.part`, and beside it what the server said of the file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Offer:
    """What a server says of the file behind an address, so that a later answer can be told to be of the same file.

    etag: strong entity tag. total: bytes of the whole file. None where the server does not say.
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """The value of If-Range (RFC 9110, 13.1.5): a strong entity tag, else the date of the last change."""
        return self.etag or self.last_modified

    def contradicts(self, other: Offer) -> bool:
        """Whether both say something, and not the same."""
        pairs = ((self.etag, other.etag), (self.last_modified, other.last_modified), (self.total, other.total))
        return any(a is not None and b is not None and a != b for a, b in pairs)


def offer(url: str, status: int, headers: Mapping[str, str]) -> tuple[Offer, int]:
    """What an answer of status 200 or 206 offers, and the byte at which its body begins.

    A 206 that does not say where it begins (RFC 9110, 14.4) begins at -1.
    """
    etag = headers.get("ETag")
    # a weak tag does not promise equal bytes, and If-Range may not carry one
    strong = etag if etag and not etag.startswith("W/") else None
    modified = headers.get("Last-Modified")
    if status == 206:
        said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if said is None:
            return Offer(url, strong, modified), -1
        return Offer(url, strong, modified, int(said[2]) if said[2] != "*" else None), int(said[1])
    length = headers.get("Content-Length", "")
    return Offer(url, strong, modified, int(length) if length.isdecimal() else None), 0


class Partial:
    """The unfinished download of one file in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.part"
        self._notes = folder / f"{name}.part.json"

    @property
    def held(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def remembered(self, url: str, checked: bool) -> Offer | None:
        """What the server said when these bytes were got; None where they are of no use and a download begins anew.

        checked: whether the whole will be compared with a known checksum. Where it is not, bytes are only used when
        the server can tell that the file is still the same.
        """
        if not self.path.is_file():
            return None
        try:
            known = Offer(**json.loads(self._notes.read_text("utf-8")))
        except (OSError, ValueError, TypeError):  # a stop between the two files, or a hand that changed one
            return None
        return known if known.url == url and (checked or known.validator) else None

    def begin(self, known: Offer) -> None:
        """Forget what there was, and remember what the server says of the file that is now to come."""
        self.path.unlink(missing_ok=True)
        self._notes.write_text(json.dumps(asdict(known)), "utf-8")

    def finish(self, name: Path) -> None:
        """Give the bytes their final name."""
        self.path.replace(name)
        self._notes.unlink(missing_ok=True)
