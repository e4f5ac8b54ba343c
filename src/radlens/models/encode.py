"""Images through an encoder in batches, decoded ahead of the computation, memory flat in their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radlens.core.classifier import Encoder
from radlens.core.errors import ImageError, ModelError

Load = Callable[[Path], npt.NDArray[np.uint8]]
"""Decodes one image to uint8 (H, W) or (H, W, 3); raises `ImageError`."""

_CPU_BATCH = 8  # larger batches fall out of the processor's cache: slower, not faster


@dataclass(frozen=True)
class EncodedBatch:
    """Embeddings of the images `start`, `start` + 1, ...

    embeddings: float32 (B, D), NaN where the image failed. failures: index in the whole sequence -> why.
    agreement: least cosine between bfloat16 and float32 embeddings of these images; None where not measured.
    """

    start: int
    embeddings: npt.NDArray[np.float32]
    failures: dict[int, ImageError] = field(default_factory=dict)
    agreement: float | None = None


def encode_images(
    encoder: Encoder,
    paths: Sequence[Path],
    load: Load,
    *,
    batch_size: int = 32,
    precision: str = "float32",
    workers: int = 2,
) -> Iterator[EncodedBatch]:
    """Embeddings of all images in order, un-normalised, a batch at a time.

    batch_size: at most; less on a CPU, and halved when a GPU runs out of memory. precision: `float32` or `bfloat16`
    (autocast), whose agreement with float32 is then measured on the first batch. workers: threads that decode and
    transform, at most two batches ahead. An image that `load` refuses is a NaN row and a failure, not an end.
    """
    size = min(batch_size, _CPU_BATCH) if encoder.device.type == "cpu" else batch_size
    run = _Runner(encoder, precision, size)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        ahead: deque[Future[npt.NDArray[np.float32] | ImageError]] = deque()
        coming = iter(paths)

        def look_ahead() -> None:
            for path in coming:
                ahead.append(pool.submit(_prepare, encoder, load, path))
                if len(ahead) >= 3 * size:
                    return

        try:
            look_ahead()
            start = 0
            while ahead:
                prepared = [ahead.popleft().result() for _ in range(min(size, len(ahead)))]
                look_ahead()
                yield run.batch(start, prepared)
                start += len(prepared)
        finally:
            for future in ahead:
                future.cancel()


def _prepare(encoder: Encoder, load: Load, path: Path) -> npt.NDArray[np.float32] | ImageError:
    try:
        return encoder.transform(load(path))
    except ImageError as error:
        return error


class _Runner:
    def __init__(self, encoder: Encoder, precision: str, limit: int) -> None:
        self.encoder, self.precision, self.limit = encoder, precision, limit
        self.measure = precision != "float32"

    def batch(self, start: int, prepared: Sequence[npt.NDArray[np.float32] | ImageError]) -> EncodedBatch:
        failures = {start + i: item for i, item in enumerate(prepared) if isinstance(item, ImageError)}
        good = {i: item for i, item in enumerate(prepared) if not isinstance(item, ImageError)}
        rows = np.full((len(prepared), self.encoder.dimension), np.nan, np.float32)
        agreement = None
        if good:
            pixels = torch.from_numpy(np.stack(list(good.values())))
            embeddings = self._encode(pixels, self.precision)
            rows[list(good)] = embeddings.numpy()
            if self.measure:
                exact = self._encode(pixels, "float32")
                agreement = float(torch.cosine_similarity(embeddings.double(), exact.double()).min())
                self.measure = False
        return EncodedBatch(start, rows, failures, agreement)

    def _encode(self, pixels: Tensor, precision: str) -> Tensor:
        parts: list[Tensor] = []
        rest = pixels
        while len(rest):
            now = rest[: self.limit]
            try:
                parts.append(self._forward(now, precision))
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                if len(now) == 1:
                    raise ModelError(
                        f"{self.encoder.device} has too little memory for one image; use --set compute.device=cpu."
                    ) from error
                self.limit = len(now) // 2
                _free(self.encoder.device)
                continue
            rest = rest[len(now) :]
        return torch.cat(parts)

    def _forward(self, pixels: Tensor, precision: str) -> Tensor:
        device = self.encoder.device
        if device.type == "cuda":
            pixels = pixels.pin_memory()
        cast: AbstractContextManager[Any] = nullcontext()
        if precision == "bfloat16":
            cast = torch.autocast(device.type, dtype=torch.bfloat16)
        # float32 means float32: by default convolutions on CUDA would round to 10 bits
        exact = torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)
        with torch.inference_mode(), cast, exact:
            return self.encoder.encode_images(pixels.to(device, non_blocking=True)).float().cpu()


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
