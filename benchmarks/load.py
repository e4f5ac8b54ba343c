"""Load a model folder: radlens against open_clip's plain route, in one run.

    python benchmarks/load.py MODEL_FOLDER [--rounds 3]

Both end in the same state, which is checked. Libraries are imported before the clock starts; the file is read once
before, so that both find it in the disk cache. Reading a file by mapping it defers work to the first image, so that the
time of one encoded image is printed as well.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from open_clip.factory import load_checkpoint
from open_clip.model import CustomTextCLIP

from radlens.core.spec import ModelSpec
from radlens.core.store import Cache
from radlens.models.folder import find_files, read_config
from radlens.models.loading import load_encoder, resolve
from radlens.models.open_clip import current_config


def plain(folder: Path) -> Any:
    """What open_clip's factory does with a local folder: build, initialise, read, copy."""
    files = find_files(folder)
    model = CustomTextCLIP(**current_config(read_config(files.config)["model_cfg"], files))
    load_checkpoint(model, str(files.weights), strict=True)
    return model.eval()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--rounds", type=int, default=3)
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        source = resolve(ModelSpec(path=str(asked.folder.absolute())), Path(), Cache(Path(cache)))
    pixels = torch.randn(1, 3, 224, 224)
    timings: dict[str, list[float]] = {"plain": [], "radlens": []}
    first: dict[str, list[float]] = {"plain": [], "radlens": []}
    for _ in range(asked.rounds):
        states = {}
        for name in timings:
            start = time.perf_counter()
            model = plain(asked.folder) if name == "plain" else load_encoder(source, "cpu").model  # type: ignore[attr-defined]
            timings[name].append(time.perf_counter() - start)
            with torch.inference_mode():
                model.encode_image(pixels)
            first[name].append(time.perf_counter() - start)
            states[name] = model.state_dict()
        assert states["plain"].keys() == states["radlens"].keys()
        assert all(torch.equal(states["plain"][key], states["radlens"][key]) for key in states["plain"])
    for name, seconds in timings.items():
        print(f"{name:8} {statistics.median(seconds):6.2f} s, {statistics.median(first[name]):6.2f} s with one image")
    for what, of in (("load", timings), ("load and one image", first)):
        ratio = statistics.median(r / p for r, p in zip(of["radlens"], of["plain"], strict=True))
        print(f"{what}: {ratio:.2f} of the plain time, the same state")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
