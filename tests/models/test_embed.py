"""Embeddings through the cache: equal to image by image, resumable, failures told, no model loaded needlessly."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from radlens.core.errors import ImageError, ModelError
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache
from radlens.models import embed
from radlens.models.embed import cached_image_embeddings, cached_text_embeddings
from radlens.models.encode import encode_images
from radlens.models.encoder import OpenClipEncoder
from radlens.models.loading import load_encoder, resolve


@pytest.fixture(scope="session")
def encoder(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenClipEncoder:
    source = resolve(ModelSpec(path=str(miniature)), Path(), Cache(tmp_path_factory.mktemp("digests")))
    loaded = load_encoder(source, "cpu")
    assert isinstance(loaded, OpenClipEncoder)
    return loaded


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    made = []
    for i in range(21):
        path = tmp_path / f"{i}.png"
        Image.fromarray(generator.integers(0, 256, (170 + i, 200 - i), np.uint8)).save(path)
        made.append(path)
    return made


def decode(path: Path) -> npt.NDArray[np.uint8]:
    try:
        return np.asarray(Image.open(path))
    except OSError as error:
        raise ImageError(str(path), "cannot be decoded") from error


def one_by_one(encoder: OpenClipEncoder, paths: list[Path]) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        rows = [encoder.model.encode_image(torch.from_numpy(encoder.transform(decode(p)))[None]) for p in paths]
    return torch.cat(rows).numpy()


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batches_equal_images_one_by_one(encoder: OpenClipEncoder, paths: list[Path], batch_size: int) -> None:
    batches = list(encode_images(encoder, paths, decode, batch_size=batch_size, workers=3))
    assert [b.start for b in batches] == list(range(0, 21, min(batch_size, 8)))
    rows = np.concatenate([b.embeddings for b in batches])
    np.testing.assert_allclose(rows, one_by_one(encoder, paths), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_measured_against_float32(encoder: OpenClipEncoder, paths: list[Path]) -> None:
    first, *others = encode_images(encoder, paths, decode, precision="bfloat16")
    exact = one_by_one(encoder, paths)[: len(first.embeddings)]
    cosine = (
        (first.embeddings * exact).sum(1) / np.linalg.norm(first.embeddings, axis=1) / np.linalg.norm(exact, axis=1)
    )
    assert first.agreement == pytest.approx(cosine.min(), abs=1e-5)
    assert 0.99 < first.agreement < 1
    assert all(b.agreement is None for b in others)


def test_an_image_that_cannot_be_decoded_is_a_row_of_nan(encoder: OpenClipEncoder, paths: list[Path]) -> None:
    whole = one_by_one(encoder, paths)
    paths[3].write_bytes(b"no image")
    batches = list(encode_images(encoder, paths, decode))
    rows = np.concatenate([b.embeddings for b in batches])
    assert np.flatnonzero(np.isnan(rows).any(axis=1)).tolist() == [3]
    assert [(i, e.reason) for b in batches for i, e in b.failures.items()] == [(3, "cannot be decoded")]
    np.testing.assert_allclose(np.delete(rows, 3, 0), np.delete(whole, 3, 0), rtol=1e-4, atol=1e-5)


def test_looking_ahead_is_bounded(encoder: OpenClipEncoder, paths: list[Path]) -> None:
    decoded: list[Path] = []

    def counted(path: Path) -> npt.NDArray[np.uint8]:
        decoded.append(path)
        return decode(path)

    batches = encode_images(encoder, paths * 10, counted, batch_size=2)
    for number, _ in zip(range(1, 20), batches, strict=False):
        assert len(decoded) <= 2 * number + 6
    batches.close()


def test_a_full_gpu_halves_the_batch(
    encoder: OpenClipEncoder, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = one_by_one(encoder, paths)
    real, sizes = encoder.encode_images, []

    def limited(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(pixels)

    monkeypatch.setattr(encoder, "encode_images", limited)
    rows = np.concatenate([b.embeddings for b in encode_images(encoder, paths, decode)])
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[3:]) == 2

    def never(pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(encoder, "encode_images", never)
    with pytest.raises(ModelError, match="too little memory for one image"):
        list(encode_images(encoder, paths, decode))


def digest(*of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()


class _Counted:
    def __init__(self, encoder: OpenClipEncoder) -> None:
        self.encoder, self.calls = encoder, 0

    def __call__(self) -> OpenClipEncoder:
        self.calls += 1
        return self.encoder


def test_a_killed_run_goes_on_and_ends_the_same(
    encoder: OpenClipEncoder, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "CHUNK", 8)
    digests: list[str | None] = [digest(i) for i in range(21)]

    def run(cache: str, load: object = decode) -> tuple[embed.ImageEmbeddings, int]:
        make = _Counted(encoder)
        told = cached_image_embeddings(Cache(tmp_path / cache), "f", make, paths, digests, load)  # type: ignore[arg-type]
        return told, make.calls

    straight, calls = run("straight")
    assert (straight.cached, calls, straight.agreement) == (False, 1, None)
    decoded = []

    def killed(path: Path) -> npt.NDArray[np.uint8]:
        if path == paths[10]:
            raise KeyboardInterrupt
        return decode(path)

    def counted(path: Path) -> npt.NDArray[np.uint8]:
        decoded.append(path)
        return decode(path)

    with pytest.raises(KeyboardInterrupt):
        run("resumed", killed)
    resumed, _ = run("resumed", counted)
    cut = next(start for start, stop in embed.chunks(digests) if start <= 10 < stop)
    assert cut > 0
    assert sorted(decoded) == sorted(paths[cut:])
    np.testing.assert_array_equal(resumed.array, straight.array)
    again, calls = run("resumed", killed)
    assert (again.cached, calls) == (True, 0)
    np.testing.assert_array_equal(again.array, straight.array)


def test_failures_are_told_again_from_the_cache(encoder: OpenClipEncoder, paths: list[Path], tmp_path: Path) -> None:
    paths[4].write_bytes(b"no image")
    paths[9].unlink()
    digests: list[str | None] = [None if i == 9 else digest(i) for i in range(21)]
    make = _Counted(encoder)
    first, second = (
        cached_image_embeddings(Cache(tmp_path / "cache"), "f", make, paths, digests, decode) for _ in range(2)
    )
    for told in (first, second):
        assert {i: (e.path, e.reason) for i, e in told.failures.items()} == {
            i: (str(paths[i]), "cannot be decoded") for i in (4, 9)
        }
        assert np.flatnonzero(np.isnan(told.array).all(axis=1)).tolist() == [4, 9]
    assert (first.cached, second.cached, make.calls) == (False, True, 1)


def test_what_decodes_at_last_is_encoded_at_last(encoder: OpenClipEncoder, paths: list[Path], tmp_path: Path) -> None:
    digests: list[str | None] = [digest(i) for i in range(21)]

    def without_decoder(path: Path) -> npt.NDArray[np.uint8]:
        if path == paths[4]:
            raise ImageError(str(path), "install a decoder")
        return decode(path)

    def run(load: object) -> embed.ImageEmbeddings:
        return cached_image_embeddings(Cache(tmp_path), "f", lambda: encoder, paths, digests, load)  # type: ignore[arg-type]

    assert list(run(without_decoder).failures) == [4]
    mended = run(decode)
    assert not mended.failures and np.isfinite(mended.array).all()
    assert run(decode).cached


@pytest.mark.parametrize("change", ["first left out", "one added"])
def test_a_changed_cohort_keeps_most_chunks(change: str) -> None:
    digests: list[str | None] = [digest(i) for i in range(5000)]
    other = digests[1:] if change == "first left out" else [*digests[:2500], digest("new"), *digests[2500:]]
    before, after = ({tuple(x[a:b]) for a, b in embed.chunks(x)} for x in (digests, other))
    assert len(after - before) <= 2 and len(before) > 10
    spans = list(embed.chunks(digests))
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])] and spans[-1][1] == 5000
    assert max(stop - start for start, stop in spans) <= 4 * embed.CHUNK


def test_the_key_holds_all_that_changes_an_embedding(
    encoder: OpenClipEncoder, paths: list[Path], tmp_path: Path
) -> None:
    base = {"fingerprint": "f", "load_fingerprint": "", "precision": "float32", "content": "content"}

    def is_cached(**changes: str) -> bool:
        options = base | changes
        digests = [digest(options["content"], i) for i in range(3)]
        return cached_image_embeddings(
            Cache(tmp_path / "cache"), options["fingerprint"], lambda: encoder, paths[:3], digests, decode,
            load_fingerprint=options["load_fingerprint"], precision=options["precision"],
        ).cached  # fmt: skip

    assert not is_cached()
    assert is_cached()
    for change in ("fingerprint", "load_fingerprint", "content"):
        assert not is_cached(**{change: "other"})
    assert not is_cached(precision="bfloat16")
    assert is_cached()


def test_progress_reaches_the_end(encoder: OpenClipEncoder, paths: list[Path], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    cached_image_embeddings(
        Cache(tmp_path / "cache"), "f", lambda: encoder, paths, [digest(0)] * 21, decode,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == sorted(told)
    assert told[-1] == (21, 21)
    assert len(told) >= 3


def test_texts_are_cached_and_in_order(encoder: OpenClipEncoder, tmp_path: Path) -> None:
    texts = ["a normal chest x-ray", "no", "pleural effusion with pneumonia", "no"]
    make = _Counted(encoder)
    first, second = (cached_text_embeddings(Cache(tmp_path / "cache"), "f", make, texts) for _ in range(2))
    with torch.no_grad():
        expected = torch.cat([encoder.model.encode_text(encoder.tokenizer([text])) for text in texts]).numpy()
    np.testing.assert_allclose(first.array, expected, atol=1e-6)
    np.testing.assert_array_equal(first.array, second.array)
    assert (first.cached, second.cached, make.calls) == (False, True, 1)


def test_what_is_cached_needs_no_torch() -> None:
    script = "import sys, radlens.models.embed, radlens.models.loading; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
