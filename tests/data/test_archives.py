"""Archives: honest ones come out whole, others are refused in one sentence and leave nothing behind."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radlens.core.errors import DataError, StoreError
from radlens.data.archive_members import members
from radlens.data.archives import extract, extract_once

FILES = {"ecgen/1.xml": b"<a/>", "ecgen/deep/2.xml": b"<b/>" * 1000, "3.bin": bytes(range(256)) * 9000, "empty": b""}


def add(tar: tarfile.TarFile, name: str, content: bytes = b"x", **facts: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


def tgz(path: Path, files: dict[str, bytes] = FILES, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        add(tar, "ecgen", b"", type=tarfile.DIRTYPE)
        for name, content in files.items():
            add(tar, name, content)
    return path


def zipped(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ecgen/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


HONEST: dict[str, Callable[[Path], Path]] = {
    "a.tgz": tgz,
    "a.tar": lambda path: tgz(path, mode="w"),
    "a.tar.xz": lambda path: tgz(path, mode="w:xz"),
    "a.zip": zipped,
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_archive_comes_out_whole(name: str, tmp_path: Path) -> None:
    archive = HONEST[name](tmp_path / name)
    assert {member.name: member.read() for member in members(archive)} == FILES
    # a caller may pass over contents
    assert [member.size for member in members(archive)] == [len(content) for content in FILES.values()]
    told: list[tuple[int, int]] = []
    assert extract(archive, tmp_path / "new/out", lambda done, total: told.append((done, total))) == 4
    assert contents(tmp_path / "new/out") == FILES
    size = archive.stat().st_size
    assert told[-1] == (size, size) and all(done <= total == size for done, total in told)
    assert names(tmp_path / "new") == ["out"]


def test_files_get_ordinary_permissions(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        add(tar, "tool", mode=0o6777)
    extract(tmp_path / "a.tgz", tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/tool").stat().st_mode) & 0o7111 == 0


BAD_MEMBERS: dict[str, tuple[dict[str, object], str]] = {
    "../out.xml": ({}, r"leads out of the folder"),
    "a/../../out.xml": ({}, r"leads out of the folder"),
    "/etc/out.xml": ({}, r"absolute path"),
    "C:/out.xml": ({}, r"absolute path"),
    "a\\..\\out.xml": ({}, r"character that no file should have"),
    "x" * 300: ({}, r"more than 255 bytes"),
    "symlink": ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link"),
    "hardlink": ({"type": tarfile.LNKTYPE, "linkname": "1.xml"}, "is a link"),
    "device": ({"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, "is a device, pipe"),
    "pipe": ({"type": tarfile.FIFOTYPE}, "is a device, pipe"),
    "1.xml": ({}, "stands in it twice"),
    "1.xml/2.xml": ({}, "takes the place of another member"),
}


@pytest.mark.parametrize("name", BAD_MEMBERS)
def test_a_member_that_no_honest_archive_has_is_refused(name: str, tmp_path: Path) -> None:
    facts, told = BAD_MEMBERS[name]
    archive = tmp_path / "in" / "a.tgz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        add(tar, "1.xml")
        add(tar, name, b"" if facts else b"y", **facts)
    with pytest.raises(DataError, match=told) as caught:
        extract(archive, tmp_path / "out")
    assert str(archive) in str(caught.value) and repr(name[:100])[1:-1] in str(caught.value)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.tgz", "in"]


@pytest.mark.parametrize("name", ["../out.xml", "/etc/out.xml", "a\\..\\out.xml", "1.xml"])
def test_a_bad_zip_member_is_refused(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.xml", b"x")
        if name == "1.xml":
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr(name, b"y")
        else:
            archive.writestr(name, b"y")
    with pytest.raises(DataError, match=BAD_MEMBERS[name][1]):
        extract(tmp_path / "a.zip", tmp_path / "out")
    assert names(tmp_path) == ["a.zip"]


def test_a_link_or_an_encrypted_file_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="'link' is a link"):
        extract(tmp_path / "a.zip", tmp_path / "out")
    path = zipped(tmp_path / "b.zip", {"1.xml": b"x"})
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"'1\.xml' is encrypted"):
        extract(path, tmp_path / "out")


def test_a_bomb_is_refused_by_the_sizes_it_declares(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        add(tar, "1.xml")
        info = tarfile.TarInfo("huge")
        info.size = 5 << 30
        tar.addfile(info)
    with pytest.raises(DataError, match=r"'huge' brings its contents to 5,368,[\d,]+ bytes, over 100 times"):
        extract(tmp_path / "a.tgz", tmp_path / "out")
    path = zipped(tmp_path / "b.zip", {"zeros": bytes(1000)})
    raw = bytearray(path.read_bytes())
    start = raw.rindex(b"PK\1\2") + 24
    raw[start : start + 4] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(DataError, match="over 100 times"):
        extract(path, tmp_path / "out")
    assert sorted(names(tmp_path)) == ["a.tgz", "b.zip"]


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.8, 0.999])
def test_a_truncated_archive_is_one_sentence(name: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(40_000)
    build = {
        "a.zip": zipped,
        "a.tgz": tgz,
        "a.tar": lambda p, f: tgz(p, f, "w"),
        "a.tar.xz": lambda p, f: tgz(p, f, "w:xz"),
    }
    path: Path = build[name](tmp_path / name, {"1": noise, "2": noise[::-1]})  # type: ignore[operator]
    whole = path.read_bytes()
    # tar pads with zeros that nobody misses: cut before them
    end = len(whole.rstrip(b"\0")) if name == "a.tar" else len(whole)
    path.write_bytes(whole[: int(end * share)])
    with pytest.raises(DataError, match=r"(cut short or damaged|not a whole one).* again\.$") as caught:
        extract(path, tmp_path / "out")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert names(tmp_path) == [name]


def test_a_tar_cut_between_members_is_noticed(tmp_path: Path) -> None:
    path = tgz(tmp_path / "a.tar", {"1": b"x" * 512, "2": b"y" * 512}, "w")
    path.write_bytes(path.read_bytes()[: 512 * 3])
    with pytest.raises(DataError, match="no end mark"):
        list(members(path))


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tgz(tmp_path / "a.tgz", {"1": np.random.default_rng(0).bytes(40_000)})
    raw = bytearray(path.read_bytes())
    raw[20_000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="damaged"):
        extract(path, tmp_path / "out")


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "page.tgz").write_text("<html>404 Not Found</html>")
    with pytest.raises(DataError, match=r"page\.tgz is no \.tgz, \.tar or \.zip"):
        list(members(tmp_path / "page.tgz"))
    with pytest.raises(DataError, match=r"gone\.tgz does not exist"):
        extract(tmp_path / "gone.tgz", tmp_path / "out")
    (tmp_path / "empty.tgz").write_bytes(b"")
    with pytest.raises(DataError, match="not a whole one"):
        extract(tmp_path / "empty.tgz", tmp_path / "out")


def test_a_small_disk_and_a_folder_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tgz(tmp_path / "a.tgz")
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="exists already"):
        extract(archive, tmp_path / "out")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1 << 20))
    with pytest.raises(StoreError, match=r"ecgen/1\.xml takes 4 bytes and the disk of .* has 1,048,576 free"):
        extract(archive, tmp_path / "other")
    assert sorted(names(tmp_path)) == ["a.tgz", "out"]


def test_unpacked_once_and_again_when_it_changes(tmp_path: Path) -> None:
    archive = tgz(tmp_path / "a.tgz")
    told: list[int] = []
    first = extract_once(archive, tmp_path / "work", lambda done, total: told.append(done))
    count = len(told)
    assert contents(first) == FILES
    assert extract_once(archive, tmp_path / "work", lambda done, total: told.append(done)) == first
    assert len(told) == count
    tgz(archive, {"other": b"1"})
    assert contents(extract_once(archive, tmp_path / "work")) == {"other": b"1"}
    with pytest.raises(DataError, match="cannot be read"):
        extract_once(tmp_path / "gone.tgz", tmp_path / "work")
