"""Downloads against a server on loopback that drops connections, changes files and tells lies."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.server
import io
import random
import shutil
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from radlens.core.errors import DataError, SpecError
from radlens.core.parts import Progress
from radlens.data.cards import DataFile, DatasetCard, load_card
from radlens.data.fetch import fetch_dataset, fetch_files
from radlens.data.fetch_file import Patience

QUICK = Patience(attempts=4, first_pause=0.01, longest_pause=5.0, connect=2.0, silence=0.5)
MODIFIED = "Wed, 01 Jul 2015 10:00:00 GMT"


def archive(seed: int = 0) -> bytes:
    """A .tgz of two files, stored without compression: some 300 kB, of one size for every seed."""
    out, draw = io.BytesIO(), random.Random(seed)
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=0) as tar:
        for name in ("one.png", "folder/two.png"):
            info = tarfile.TarInfo(name)
            info.size = 150_000
            tar.addfile(info, io.BytesIO(draw.randbytes(info.size)))
    return out.getvalue()


CONTENT = archive()
PAGE = b"\n <!DOCTYPE html><title>There seems to be an error</title>"
Behaviour = Callable[["Server", http.server.BaseHTTPRequestHandler, bytes, str | None], None]


class Server:
    """Answers with one behaviour after another, the last one for good, and remembers what it was asked and sent."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours = list(behaviours)
        self.files: dict[str, tuple[bytes, str | None]] = {"/images.tgz": (CONTENT, '"one"')}
        self.asked: list[tuple[str | None, str | None]] = []
        self._sent = self._answering = 0
        self._changed = threading.Condition()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append((self.headers.get("Range"), self.headers.get("If-Range")))
                behaviour = server.behaviours.pop(0) if len(server.behaviours) > 1 else server.behaviours[0]
                with server.answering(), contextlib.suppress(ConnectionError):
                    behaviour(server, self, *server.files[self.path])

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = False
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Server:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def send(self, handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
        handler.wfile.write(data)
        handler.wfile.flush()
        self._sent += len(data)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        with self._changed:
            self._answering += 1
        try:
            yield
        finally:
            with self._changed:
                self._answering -= 1
                self._changed.notify_all()

    @property
    def sent(self) -> int:
        """Bytes of files; a client may have the last of them before they are counted."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._answering == 0, 10)
            return self._sent

    @sent.setter
    def sent(self, value: int) -> None:
        self._sent = value


def begin(handler: http.server.BaseHTTPRequestHandler, status: int, **headers: object) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        if value is not None:
            handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()


def asked_from(handler: http.server.BaseHTTPRequestHandler) -> int | None:
    said = handler.headers.get("Range")
    return int(said.removeprefix("bytes=").removesuffix("-")) if said else None


def serve(
    upto: int | None = None,
    *,
    ranges: bool = True,
    obey_if_range: bool = True,
    modified: str | None = None,
    length: bool = True,
    claim: int | None = None,
    encoding: str | None = None,
) -> Behaviour:
    """An honest server (RFC 9110), but that the connection drops after `upto` bytes of the body."""

    def behave(server: Server, handler: http.server.BaseHTTPRequestHandler, data: bytes, etag: str | None) -> None:
        start = asked_from(handler) if ranges else None
        condition = handler.headers.get("If-Range")
        if start is not None and obey_if_range and condition is not None and condition not in (etag, modified):
            start = None
        total = claim if claim is not None else len(data)
        common: dict[str, object] = {"ETag": etag, "Last_Modified": modified, "Content_Encoding": encoding}
        if start is not None and start >= len(data):
            begin(handler, 416, Content_Range=f"bytes */{len(data)}", Content_Length=0)
            return
        if start is not None:
            begin(
                handler,
                206,
                Content_Range=f"bytes {start}-{total - 1}/{total}",
                Content_Length=total - start,
                **common,
            )
        else:
            begin(handler, 200, Content_Length=total if length else None, **common)
        rest = data[start or 0 :]
        server.send(handler, rest if upto is None else rest[:upto])

    return behave


def refuse(status: int, **headers: object) -> Behaviour:
    return lambda server, handler, data, etag: begin(handler, status, Content_Length=0, **headers)


def page(server: Server, handler: http.server.BaseHTTPRequestHandler, data: bytes, etag: str | None) -> None:
    begin(handler, 200, Content_Length=len(PAGE), Content_Type="text/html")
    server.send(handler, PAGE)


def silent(server: Server, handler: http.server.BaseHTTPRequestHandler, data: bytes, etag: str | None) -> None:
    begin(handler, 200, Content_Length=len(data), ETag=etag)
    server.send(handler, data[:100_000])
    time.sleep(1.0)


def slow(server: Server, handler: http.server.BaseHTTPRequestHandler, data: bytes, etag: str | None) -> None:
    # longer in all than the client waits for the next bytes
    begin(handler, 200, Content_Length=len(data), ETag=etag)
    step = len(data) // 12 + 1
    for start in range(0, len(data), step):
        server.send(handler, data[start : start + step])
        time.sleep(0.06)


def chunked(server: Server, handler: http.server.BaseHTTPRequestHandler, data: bytes, etag: str | None) -> None:
    handler.protocol_version = "HTTP/1.1"
    begin(handler, 200, Transfer_Encoding="chunked", ETag=etag, Connection="close")
    for start in range(0, len(data), 50_000):
        piece = data[start : start + 50_000]
        server.send(handler, f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    server.send(handler, b"0\r\n\r\n")


class Listener:
    """Keeps what `fetch_files` tells, and checks each bar."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: dict[str, list[tuple[int, int]]] = {}

    @contextlib.contextmanager
    def bar(self, title: str) -> Iterator[Progress]:
        seen = self.bars.setdefault(title, [])
        yield lambda done, total: seen.append((done, total))
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def card(url: str, *, known: bool = True, content: bytes = CONTENT, **changes: Any) -> DatasetCard:
    facts = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} if known else {}
    file = {"name": "images.tgz", "url": f"{url}/images.tgz", "kind": "png", "what": "images", "extract": True}
    return DatasetCard.model_validate(
        {
            "title": "Phantom films",
            "licence": "CC0 1.0",
            "citation": "A paper of 2020",
            "homepage": "https://example.org/films",
            "access": "open",
            "how_to_get": "Ask the author.",
            "file": [file | facts | changes],
        }
    )


def fetch(server: Server, to: Path, listener: Listener | None = None, extract: bool = False, **of_card: Any) -> Path:
    listener = listener or Listener()
    (path,) = fetch_files(
        "films",
        card(server.url, **of_card),
        to,
        extract=extract,
        tell=listener.lines.append,
        bar=listener.bar,
        patience=QUICK,
    )
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_data_set_is_downloaded_checked_and_unpacked(tmp_path: Path) -> None:
    listener = Listener()
    with Server(serve()) as server:
        folder = fetch(server, tmp_path / "new" / "films", listener, extract=True)
        assert folder == tmp_path / "new" / "films" / "images"
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png")) == ["folder/two.png", "one.png"]
        assert (folder.parent / "images.tgz").read_bytes() == CONTENT
        assert names(folder.parent) == ["images", "images.tgz"]
        assert listener.lines[:3] == ["Phantom films", "licence: CC0 1.0", "please cite: A paper of 2020"]
        assert listener.bars["images.tgz"][-1] == (len(CONTENT), len(CONTENT))

        assert fetch(server, folder.parent, extract=True) == folder
        assert len(server.asked) == 1, "what is there is not downloaded again"
        shutil.rmtree(folder)
        assert fetch(server, folder.parent, extract=True) == folder, "unpacked again from the archive that is there"
        assert len(server.asked) == 1


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("etag", "modified"), [('"one"', None), (None, MODIFIED), ('W/"one"', MODIFIED)])
def test_drops_are_resumed_and_no_byte_is_sent_in_vain(
    tmp_path: Path, known: bool, etag: str | None, modified: str | None
) -> None:
    listener = Listener()
    drops = [serve(n, modified=modified) for n in (70_000, 1, 90_000, 40_000)]
    with Server(*drops, serve(modified=modified)) as server:
        server.files["/images.tgz"] = (CONTENT, etag)
        path = fetch(server, tmp_path, listener, known=known)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["images.tgz"]
    assert [asked is None for asked, _ in server.asked] == [True, False, False, False, False]
    assert {condition for _, condition in server.asked[1:]} == {'"one"' if etag == '"one"' else MODIFIED}
    # a drop may cost what was received since the last whole piece, no more
    assert len(CONTENT) <= server.sent <= len(CONTENT) + 4 * (1 << 15)
    assert {total for _, total in listener.bars["images.tgz"]} == {len(CONTENT)}
    assert sum("asking again" in line for line in listener.lines) == 4


@pytest.mark.parametrize("seed", range(8))
def test_whatever_a_server_does_in_between_the_bytes_are_right(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    sorts = (
        lambda: serve(draw.randrange(120_000)),
        lambda: serve(draw.randrange(120_000), ranges=False),
        lambda: serve(draw.randrange(120_000), length=False),
        lambda: serve(draw.randrange(120_000), obey_if_range=False),
        lambda: refuse(draw.choice([429, 500, 503])),
        lambda: refuse(416, Content_Range="bytes */7"),
        lambda: page,
    )
    listener = Listener()
    with Server(*(draw.choice(sorts)() for _ in range(12)), serve()) as server:
        (path,) = fetch_files(
            "films",
            card(server.url),
            tmp_path,
            extract=False,
            bar=listener.bar,
            patience=replace(QUICK, attempts=20, longest_pause=0.01),
        )
    assert path.read_bytes() == CONTENT
    assert listener.bars["images.tgz"][-1] == (len(CONTENT), len(CONTENT))


def test_a_second_run_goes_on_where_the_first_gave_up(tmp_path: Path) -> None:
    with Server(serve(200_000), refuse(503)) as server:
        with pytest.raises(DataError, match=r"the server answers 503 .*, 4 times in a row; .* bytes are kept in"):
            fetch(server, tmp_path)
        assert names(tmp_path) == ["images.tgz.part", "images.tgz.part.json"]
        held = (tmp_path / "images.tgz.part").stat().st_size
        assert held > 150_000
        assert CONTENT.startswith((tmp_path / "images.tgz.part").read_bytes())
        server.behaviours, server.sent = [serve()], 0
        listener = Listener()
        assert fetch(server, tmp_path, listener).read_bytes() == CONTENT
        assert server.sent == len(CONTENT) - held
        assert server.asked[-1] == (f"bytes={held}-", '"one"')
        assert listener.bars["images.tgz"][0][0] > held


def test_a_stop_by_the_user_keeps_what_there_is(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def stopping(title: str) -> Iterator[Progress]:
        def progress(done: int, total: int) -> None:
            if done > 100_000:
                raise KeyboardInterrupt

        yield progress

    with Server(serve()) as server:
        with pytest.raises(KeyboardInterrupt):
            fetch_files("films", card(server.url), tmp_path, bar=stopping, patience=QUICK)
        held = (tmp_path / "images.tgz.part").stat().st_size
        assert 100_000 < held < len(CONTENT)
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        assert [asked for asked, _ in server.asked] == [None, f"bytes={held}-"]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("obey_if_range", [True, False])
def test_a_file_that_changed_on_the_server_begins_anew(tmp_path: Path, known: bool, obey_if_range: bool) -> None:
    newer = archive(seed=1)
    assert newer != CONTENT

    def changed(server: Server, handler: http.server.BaseHTTPRequestHandler, data: bytes, etag: str | None) -> None:
        serve(90_000)(server, handler, CONTENT, '"one"')
        server.files["/images.tgz"] = (newer, '"two"')

    with Server(changed, serve(obey_if_range=obey_if_range)) as server:
        assert fetch(server, tmp_path, known=known, content=newer).read_bytes() == newer
    assert names(tmp_path) == ["images.tgz"]


def test_a_server_that_ignores_ranges_sends_all_again(tmp_path: Path) -> None:
    listener = Listener()
    with Server(serve(90_000, ranges=False), serve(ranges=False)) as server:
        assert fetch(server, tmp_path, listener).read_bytes() == CONTENT
    assert server.asked[1][0] is not None
    assert server.sent == 90_000 + len(CONTENT)


def test_a_server_that_ignores_ranges_and_always_drops_is_given_up(tmp_path: Path) -> None:
    with (
        Server(serve(90_000, ranges=False)) as server,
        pytest.raises(DataError, match="the connection was dropped, 4 times in a row"),
    ):
        fetch(server, tmp_path)
    assert len(server.asked) == 1 + QUICK.attempts - 1


def test_without_any_word_on_the_file_nothing_is_resumed_but_with_a_checksum(tmp_path: Path) -> None:
    for known in (True, False):
        folder = tmp_path / str(known)
        with Server(serve(90_000), serve()) as server:
            server.files["/images.tgz"] = (CONTENT, None)
            assert fetch(server, folder, known=known).read_bytes() == CONTENT
        assert (server.asked[1][0] is not None) is known


def test_bytes_of_another_address_and_of_nobody_are_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "images.tgz.part").write_bytes(b"x" * 1000)
    with Server(serve()) as server:
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        assert server.asked == [(None, None)]
    (tmp_path / "images.tgz").unlink()
    (tmp_path / "images.tgz.part").write_bytes(b"x" * 1000)
    (tmp_path / "images.tgz.part.json").write_text('{"url": "http://127.0.0.1:1/images.tgz", "etag": "a"}')
    with Server(serve()) as server:
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        assert server.asked == [(None, None)]
    assert names(tmp_path) == ["images.tgz"]


@pytest.mark.parametrize("known", [True, False])
def test_a_part_that_is_whole_is_only_checked(tmp_path: Path, known: bool) -> None:
    with Server(serve()) as server:
        fetch(server, tmp_path, known=known)
        (tmp_path / "images.tgz").rename(tmp_path / "images.tgz.part")
        notes = f'{{"url": "{server.url}/images.tgz", "etag": "\\"one\\"", "total": {len(CONTENT)}}}'
        (tmp_path / "images.tgz.part.json").write_text(notes)
        assert fetch(server, tmp_path, known=known).read_bytes() == CONTENT
        assert len(server.asked) == 1
        # and where the length was never told, the server says that there is no more
        (tmp_path / "images.tgz").rename(tmp_path / "images.tgz.part")
        (tmp_path / "images.tgz.part.json").write_text(notes.replace(str(len(CONTENT)), "null"))
        assert fetch(server, tmp_path, known=known).read_bytes() == CONTENT
        assert server.sent == len(CONTENT)


def test_a_file_that_became_shorter_begins_anew(tmp_path: Path) -> None:
    shorter = CONTENT[:50_000]

    def cut(server: Server, handler: http.server.BaseHTTPRequestHandler, data: bytes, etag: str | None) -> None:
        serve(90_000)(server, handler, data, etag)
        server.files["/images.tgz"] = (shorter, etag)

    with Server(cut, serve()) as server:
        assert fetch(server, tmp_path, known=False).read_bytes() == shorter


def test_a_wrong_checksum_sets_the_file_aside(tmp_path: Path) -> None:
    with Server(serve()) as server:
        with pytest.raises(DataError, match=r"images\.tgz is not the file of the card: .*SHA-256 0{64}.*set aside as"):
            fetch(server, tmp_path, sha256="0" * 64)
        assert names(tmp_path) == ["images.tgz.rejected"]
        with pytest.raises(DataError, match="set aside"):
            fetch(server, tmp_path, sha256="0" * 64)
        assert server.sent == 2 * len(CONTENT), "a rejected file is never resumed"


def test_a_wrong_size_is_noticed_before_the_download(tmp_path: Path) -> None:
    with (
        Server(serve()) as server,
        pytest.raises(DataError, match=rf"the card says 1,234,567 bytes, .* offers {len(CONTENT):,}; "),
    ):
        fetch(server, tmp_path, size=1_234_567)
    assert names(tmp_path) == []
    assert len(server.asked) == 1


def test_a_length_that_promises_too_much_is_set_right_by_a_second_answer(tmp_path: Path) -> None:
    listener = Listener()
    with Server(serve(claim=len(CONTENT) + 1000)) as server:
        with pytest.raises(DataError, match="the card says"):
            fetch(server, tmp_path)
        # asked for the rest, the server says that there is none
        folder = fetch(server, tmp_path, listener, known=False, extract=True)
        assert (folder / "one.png").stat().st_size == 150_000
        assert server.asked[-1][0] == f"bytes={len(CONTENT)}-"


def test_a_length_that_promises_too_little_gives_no_finished_file(tmp_path: Path) -> None:
    with Server(serve(claim=len(CONTENT) - 100_000)) as server:
        with pytest.raises(DataError, match="the card says"):
            fetch(server, tmp_path)
        with pytest.raises(DataError, match="is cut short or damaged"):
            fetch(server, tmp_path, known=False, extract=True)
    assert names(tmp_path) == ["images.tgz.rejected"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_an_answer_that_will_not_change_is_told_at_once(tmp_path: Path, status: int) -> None:
    with Server(refuse(status)) as server, pytest.raises(DataError, match=rf"answers {status} .*has moved"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_answer_that_may_change_is_asked_for_again(tmp_path: Path, status: int) -> None:
    with Server(refuse(status), refuse(status), serve()) as server:
        assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_the_wait_that_a_server_asks_for_is_kept(tmp_path: Path) -> None:
    with Server(refuse(429, Retry_After=1), serve()) as server:
        begun = time.monotonic()
        fetch(server, tmp_path / "a")
        assert time.monotonic() - begun >= 1.0
    past = email.utils.formatdate(time.time() - 60, usegmt=True)
    with Server(refuse(503, Retry_After=past), refuse(503, Retry_After="soon"), serve()) as server:
        begun = time.monotonic()
        fetch(server, tmp_path / "b")
        assert time.monotonic() - begun < 1.0
    later = email.utils.formatdate(time.time() + 3600, usegmt=True)
    with Server(refuse(503, Retry_After=later)) as server, pytest.raises(DataError, match=r"asks to wait 3\d\d\d sec"):
        fetch(server, tmp_path / "c")


@pytest.mark.parametrize("known", [True, False])
def test_a_web_page_in_place_of_the_archive_costs_nothing_that_is_held(tmp_path: Path, known: bool) -> None:
    with Server(serve(100_000), page, page, serve()) as server:
        assert fetch(server, tmp_path, known=known).read_bytes() == CONTENT
    assert len(CONTENT) <= server.sent - 2 * len(PAGE) <= len(CONTENT) + (1 << 15)
    with (
        Server(page) as server,
        pytest.raises(DataError, match=r"a web page in place of images\.tgz, 4 times in a row"),
    ):
        fetch(server, tmp_path / "page", known=known)
    assert names(tmp_path / "page") == []


def test_something_else_in_place_of_the_archive_is_told(tmp_path: Path) -> None:
    with Server(serve()) as server:
        server.files["/images.tgz"] = (b"hello there", None)
        with pytest.raises(DataError, match=r"something else in place of images\.tgz \(it begins with b'hello"):
            fetch(server, tmp_path, known=False)
        server.files["/images.tgz"] = (b"", None)
        with pytest.raises(DataError, match="the server sent nothing"):
            fetch(server, tmp_path, known=False)
    assert names(tmp_path) == []


def test_a_damaged_archive_without_a_known_checksum_is_set_aside(tmp_path: Path) -> None:
    damaged = bytearray(CONTENT)
    damaged[150_000] ^= 0xFF
    with Server(serve()) as server:
        server.files["/images.tgz"] = (bytes(damaged), None)
        with pytest.raises(DataError, match="set aside as"):
            fetch(server, tmp_path, known=False, extract=True)
        assert names(tmp_path) == ["images.tgz.rejected"]
        server.files["/images.tgz"] = (CONTENT, None)
        assert fetch(server, tmp_path, known=False, extract=True) == tmp_path / "images"


def test_a_silent_server_is_asked_again_and_a_slow_one_is_waited_for(tmp_path: Path) -> None:
    listener = Listener()
    with Server(silent, serve()) as server:
        assert fetch(server, tmp_path / "silent", listener).read_bytes() == CONTENT
    assert any("the server is silent" in line for line in listener.lines)
    with Server(slow) as server:
        assert fetch(server, tmp_path / "slow").read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_length_that_is_not_told_is_no_hindrance(tmp_path: Path) -> None:
    for number, behaviour in enumerate((chunked, serve(length=False))):
        listener = Listener()
        with Server(behaviour) as server:
            assert fetch(server, tmp_path / str(number), listener, known=False).read_bytes() == CONTENT
        assert {total for _, total in listener.bars["images.tgz"]} == {0}
    # with a size on the card an early end is a drop, whatever the server thinks
    with Server(serve(90_000, length=False), serve()) as server:
        assert fetch(server, tmp_path / "cut").read_bytes() == CONTENT


def test_an_archive_that_is_called_an_encoding_stays_as_it_is(tmp_path: Path) -> None:
    # Apache marks .tgz so by default; a client that decodes would write the .tar
    with Server(serve(100_000, encoding="x-gzip"), serve(encoding="gzip")) as server:
        assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_redirects_are_followed_where_they_are_safe(tmp_path: Path) -> None:
    with Server(serve()) as server:
        server.files["/elsewhere"] = server.files["/images.tgz"]
        with Server(refuse(302, Location=f"{server.url}/elsewhere")) as first:
            assert fetch(first, tmp_path / "a").read_bytes() == CONTENT
        for target in ("file:///etc/hostname", "ftp://127.0.0.1/images.tgz"):
            with (
                Server(refuse(301, Location=target)) as first,
                pytest.raises(DataError, match=r"redirects to .* which is not http or https; it was not followed"),
            ):
                fetch(first, tmp_path / "b")
        with Server(refuse(302, Location="/images.tgz")) as first:
            with pytest.raises(DataError, match="redirects more than 10 times"):
                fetch(first, tmp_path / "c")
            assert len(first.asked) == 11


def test_a_redirect_from_https_to_http_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(requests.adapters.BaseAdapter):
        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            response = requests.Response()
            response.status_code, response.url, response.raw = 302, str(request.url), io.BytesIO()
            response.headers["Location"] = "http://127.0.0.1:1/images.tgz"
            response.request = request
            return response

        def close(self) -> None:
            pass

    # a TLS server on loopback would need a certificate that this machine trusts
    monkeypatch.setattr(requests.Session, "get_adapter", lambda self, url: Answer())
    with pytest.raises(DataError, match=r"redirects to http://127\.0\.0\.1:1/images\.tgz, which is not https"):
        fetch_files("films", card("https://127.0.0.1"), tmp_path, patience=QUICK)


def test_nobody_there_is_told_after_a_few_times(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(DataError, match="the connection was refused, 4 times in a row; nothing could be kept"):
            fetch_files("films", card(url), tmp_path, patience=QUICK)


def test_a_disk_too_small_is_told_before_anything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    free = {"bytes": 100 * 10**6 + 2 * len(CONTENT)}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free["bytes"]))
    with Server(serve()) as server:
        with pytest.raises(DataError, match=r"too small: about 100\.6 MB are needed .* and 100\.6 MB are free"):
            fetch(server, tmp_path, extract=True)
        assert server.asked == []
        # a size that only the server knows is checked when it is told, before a byte is written
        with pytest.raises(DataError, match="too small"):
            fetch(server, tmp_path, extract=True, known=False)
        assert len(server.asked) == 1
        assert names(tmp_path) == []
        assert fetch(server, tmp_path).read_bytes() == CONTENT, "without unpacking there is room"
        free["bytes"] = 0
        assert fetch(server, tmp_path).read_bytes() == CONTENT, "what is there needs none"


def test_iu_xray_is_refused_on_a_full_disk_without_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    monkeypatch.delattr(requests.Session, "get")
    # images 1.36 GB and unpacked again as much, reports 1 MB, 100 MB to spare
    with pytest.raises(DataError, match=r"about 3\.0 GB are needed .* and 1\.0 GB are free"):
        fetch_dataset("iu-xray", tmp_path)
    with pytest.raises(DataError, match=r"about 242\.2 GB are needed"):
        fetch_dataset("iu-xray", tmp_path, kinds=["dicom"])
    assert names(tmp_path) == []


def test_a_resumed_download_needs_only_the_room_for_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(serve(200_000), refuse(404)) as server:
        with pytest.raises(DataError):
            fetch(server, tmp_path)
        held = (tmp_path / "images.tgz.part").stat().st_size
        usage = shutil.disk_usage(tmp_path)
        free = 100 * 10**6 + len(CONTENT) - held
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
        server.behaviours = [serve()]
        assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_checked(tmp_path: Path) -> None:
    with Server(serve()) as server:
        (tmp_path / "images.tgz").write_bytes(CONTENT)
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        (tmp_path / "images.tgz").write_bytes(CONTENT[:-1])
        with pytest.raises(DataError, match=rf"says {len(CONTENT):,} bytes, it has {len(CONTENT) - 1:,}; move it away"):
            fetch(server, tmp_path)
        (tmp_path / "images.tgz").write_bytes(CONTENT[:-1] + b"?")
        with pytest.raises(DataError, match="says SHA-256 "):
            fetch(server, tmp_path)
        assert server.asked == []
        assert (tmp_path / "images.tgz").read_bytes() == CONTENT[:-1] + b"?", "what a user has is left alone"


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Server(serve()) as server:
        with pytest.raises(DataError, match=r"file: a file stands where a folder is needed; name another .* --to"):
            fetch(server, tmp_path / "file")
        (tmp_path / "a" / "images.tgz.part.json").mkdir(parents=True)
        with pytest.raises(DataError, match=r"cannot write .*images\.tgz\.part"):
            fetch(server, tmp_path / "a")


def test_kinds_choose_the_files(tmp_path: Path) -> None:
    def file(name: str, kind: str) -> DataFile:
        return DataFile.model_validate(
            {"name": name, "url": f"{server.url}/{name}", "kind": kind, "what": f"the {kind}", "size": 3}
        )

    with Server(serve()) as server:
        found = {"reports.txt": "reports", "png.txt": "png", "dicom.txt": "dicom"}
        server.files = {f"/{name}": (b"abc", '"x"') for name in found}
        whole = card(server.url).model_copy(update={"file": tuple(file(*each) for each in found.items())})
        lines: list[str] = []
        default = fetch_files("films", whole, tmp_path / "a", kinds=[], tell=lines.append, patience=QUICK)
        assert [path.name for path in default] == ["reports.txt", "png.txt"]
        assert "left out: the dicom (dicom.txt, 3 bytes); ask for it with --only dicom" in lines
        asked = fetch_files("films", whole, tmp_path / "b", kinds=["dicom"], patience=QUICK)
        assert [path.name for path in asked] == ["dicom.txt"]
        with pytest.raises(SpecError, match=r"unknown kind of file 'dicm'. Did you mean 'dicom'"):
            fetch_files("films", whole, tmp_path / "c", kinds=["dicm"], patience=QUICK)
        with pytest.raises(SpecError, match=r"'films' has no file of kind 'labels'; it has dicom, png, reports"):
            fetch_files("films", whole, tmp_path / "c", kinds=["labels"], patience=QUICK)
        assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("name", ["chexpert", "mimic-cxr-jpg", "nih-cxr14"])
def test_a_data_set_that_needs_a_person_says_how_it_is_got(tmp_path: Path, name: str) -> None:
    card = load_card(name)
    with pytest.raises(DataError) as caught:
        fetch_dataset(name, tmp_path / "x")
    assert card.how_to_get.rstrip(".") in str(caught.value)
    assert card.homepage in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_an_unknown_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="Did you mean 'chexpert'"):
        fetch_dataset("chexprt", tmp_path)
