"""Films whose bright corners decide their labels, as a task; run as a program, one training in a process of its own.

python training_toy.py MODEL_FOLDER WORK OUT '{"setting": "fine-tune", "options": {...}, "kill_at": null, ...}'
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from radlens.core.errors import ImageError, RadlensError
from radlens.core.parts import AdaptationTask, TrainingPlace
from radlens.core.spec import ModelSpec, build_part
from radlens.core.store import Cache
from radlens.core.vocabulary import Label, Vocabulary
from radlens.models.encoder import OpenClipEncoder
from radlens.models.loading import load_encoder, resolve


class Films:
    """Noise of 40 x 40; label 0: upper left corner bright, label 1: lower right corner bright. An `ImageSource`."""

    def __init__(self, count: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.image_ids = [f"film-{seed}-{row}" for row in range(count)]
        self.targets = generator.integers(0, 2, (count, 2)).astype(np.float32)
        self.films = generator.integers(0, 90, (count, 40, 40)).astype(np.uint8)
        self.films[self.targets[:, 0] == 1, :20, :20] += 90
        self.films[self.targets[:, 1] == 1, 20:, 20:] += 90
        self.broken: set[int] = set()

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, row: int) -> npt.NDArray[np.uint8]:
        if row in self.broken:
            raise ImageError(f"/films/{row}.png", "is truncated.")
        return self.films[row]


def read_encoder(folder: Path) -> OpenClipEncoder:
    with tempfile.TemporaryDirectory() as cache:
        encoder = load_encoder(resolve(ModelSpec(path=str(folder)), Path(), Cache(Path(cache))), "cpu")
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


def embed(encoder: OpenClipEncoder, films: Films) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        pixels = torch.from_numpy(np.stack([encoder.transform(film) for film in films.films]))
        return encoder.encode_images(pixels).numpy()


def make_task(
    encoder: OpenClipEncoder, place: Path | None, train: int = 40, val: int = 20, **more: Any
) -> AdaptationTask:
    films = {"train": Films(train, 1), "val": Films(val, 2)}
    labels = tuple(Label(f"label {i}", None, (f"with {i}",), (f"without {i}",)) for i in range(2))
    fields: dict[str, Any] = {
        "vocabulary": Vocabulary("toy", labels),
        "embeddings": {split: embed(encoder, source) for split, source in films.items()},
        "targets": {split: source.targets.copy() for split, source in films.items()},
        "encode_texts": lambda texts: np.zeros((len(texts), 24), np.float32),
        "logit_scale": encoder.logit_scale,
        "seed": 0,
        "progress": lambda done, total: None,
        "encoder": encoder,
        "images": films,
        "place": None if place is None else TrainingPlace(place, device="cpu", workers=2),
    }
    return AdaptationTask(**fields | more)


def killer(at: int | None) -> Callable[[int, int], None]:
    """Progress that ends this process, as the kernel would, after that many steps."""

    def tell(done: int, total: int) -> None:
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return tell


def main() -> None:
    folder, work, out, asked = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
    torch.set_num_threads(1)
    task = make_task(read_encoder(folder), work, progress=killer(asked.get("kill_at")))
    task.targets["train"][::5, 0] = np.nan
    task.targets["val"][::7, 1] = np.nan
    try:
        made = build_part("settings", asked["setting"], asked["options"]).fit(task)
    except RadlensError as error:
        sys.exit(str(error))
    tensors = {f"tower.{name}": tensor for name, tensor in made.image_tensors.items()}
    tensors |= {f"head.{name}": tensor for name, tensor in made.head.state_dict().items()}
    out.mkdir(parents=True, exist_ok=True)
    name = os.environ.get("RANK", "0")
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, out / f"{name}.safetensors")
    (out / f"{name}.json").write_text(json.dumps(dict(made.card)))


if __name__ == "__main__":
    main()
