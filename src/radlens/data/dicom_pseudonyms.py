"""Salted hashes in place of the names that a DICOM file gives to patients, studies and images."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from radlens.core.errors import SpecError, StoreError
from radlens.core.store import write_failure

_SHORTEST = 16


class Pseudonyms:
    """HMAC-SHA256 under a secret salt, cut to 16 hexadecimal digits (64 bits).

    The same value under the same salt has the same pseudonym, so that files of one patient stay together; without the
    salt nobody can try candidates. Among 400,000 values two share a pseudonym with a chance of 4 in a billion.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self.check = self.of("salt", "")
        """Tells whether two cohorts were made under one salt; says nothing of the salt itself."""

    def of(self, kind: str, value: str) -> str:
        """The pseudonym of a value; `kind` keeps a patient and a study of one number apart."""
        text = f"{kind}\0{value}".encode("utf-8", "surrogateescape")
        return hmac.digest(self._salt, text, "sha256").hex()[:16]


def salt_from_variable(name: str) -> bytes:
    """The salt that an environment variable holds. Raises `SpecError` when it is unset or under 16 characters."""
    found = os.environ.get(name, "")
    if len(found) < _SHORTEST:
        what = f"of {len(found)} characters" if found else "that is not set"
        raise SpecError(
            f"salt_variable: expected an environment variable with a secret of at least {_SHORTEST} characters, "
            f"found {name!r} {what}; export one, such as the output of `openssl rand -hex 32`."
        )
    return found.encode("utf-8", "surrogateescape")


def salt_of_cache(path: Path) -> bytes:
    """The salt kept in a file that the user alone may read, made at the first call. Raises `StoreError`."""
    try:
        if not path.is_file():
            _make(path)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
        salt = path.read_bytes().strip()
    except OSError as error:
        raise StoreError(write_failure(path, error)) from error
    if len(salt) < _SHORTEST:
        raise StoreError(
            f"the salt {path} is cut short; delete it to make another (every pseudonym changes), or name a "
            "variable that holds the salt with `salt_variable:`."
        )
    return salt


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        # a link never replaces: of two processes that begin at once both use the salt of the first
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(aside)
    finally:
        aside.unlink(missing_ok=True)
