"""One request for a file: redirects that stay safe, and which answers are worth asking again."""

from __future__ import annotations

import contextlib
import email.utils
import time
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from radlens.core.errors import DataError

_REDIRECTS = 10
_CHUNK = 1 << 15  # what a dropped connection may lose of what was received
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAGIC = {".tgz": b"\x1f\x8b", ".gz": b"\x1f\x8b", ".zip": b"PK"}
_PAGE = (b"<!doctype", b"<html", b"<?xml")


class Interrupted(Exception):
    """The download stopped for a reason that may pass. wait: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@contextlib.contextmanager
def answer(
    session: requests.Session, url: str, headers: dict[str, str], timeout: tuple[float, float]
) -> Iterator[requests.Response]:
    """The server's answer of status 200, 206 or 416, its body not yet read, after at most 10 redirects.

    timeout: seconds to wait for a connection, and for the next bytes. A redirect away from https, or to anything but
    http and https, and an answer that asking again cannot change, raise `DataError`; all else raises `Interrupted`.
    """
    here = url
    for _ in range(_REDIRECTS + 1):
        try:
            response = session.get(here, headers=headers, stream=True, timeout=timeout, allow_redirects=False)
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise DataError(f"{here}: the server's certificate is not one that this machine trusts.") from error
            raise Interrupted(_reason(error)) from error
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise Interrupted(_reason(error)) from error
        except requests.RequestException as error:
            raise DataError(f"{here} cannot be asked for: {error}.") from error
        with response:
            target = response.headers.get("Location")
            if response.status_code not in (301, 302, 303, 307, 308) or target is None:
                _check_status(here, response)
                yield response
                return
        there = urljoin(here, target)
        schemes = {"https"} if urlsplit(here).scheme == "https" else {"http", "https"}
        if urlsplit(there).scheme not in schemes:
            raise DataError(
                f"{url} redirects to {there}, which is not {' or '.join(sorted(schemes))}; it was not followed."
            )
        here = there
    raise DataError(f"{url} redirects more than {_REDIRECTS} times; last to {here}.")


def body(response: requests.Response) -> Iterator[bytes]:
    """The body as it was sent, piece by piece; a dropped or silent connection raises `Interrupted`."""
    # not `iter_content`: a server that marks a .tgz as an encoding would have it unpacked on the way
    try:
        yield from response.raw.stream(_CHUNK, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Interrupted(_reason(error)) from error


def check_start(name: str, first: bytes) -> None:
    """Raise `Interrupted` when a file's first bytes are a web page, or not those that its name promises.

    Archives are at times replaced by a page that tells of maintenance, with status 200.
    """
    magic = _MAGIC.get(name[name.rfind(".") :].lower())
    if first.lstrip()[:9].lower().startswith(_PAGE) and not name.lower().endswith((".xml", ".html")):
        raise Interrupted(f"the server sent a web page in place of {name}")
    if magic is not None and not first.startswith(magic):
        raise Interrupted(f"the server sent something else in place of {name} (it begins with {first[:8]!r})")


def _check_status(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    said = f"{status} {response.reason}".strip()
    if status in _AGAIN:
        raise Interrupted(f"the server answers {said}", _retry_after(response.headers.get("Retry-After")))
    raise DataError(f"{url} answers {said}; see whether the data set has moved.")


def _retry_after(value: str | None) -> float | None:
    # seconds, or a date (RFC 9110, 10.2.3)
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _reason(error: BaseException) -> str:
    # what the layers below say is pages long; these are the cases that a user can tell apart
    text = str(error)
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be used"
    if isinstance(error, requests.exceptions.SSLError):
        return "no safe connection (TLS) could be made"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "the server is silent"
    if "resolve" in text:
        return "the server's name cannot be resolved"
    if "refused" in text:
        return "the connection was refused"
    return "the connection was dropped"
