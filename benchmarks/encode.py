"""Encode radiographs with a ViT-B/16: radlens against a plain open_clip loop, image by image, in one run.

    python benchmarks/encode.py FOLDER_OF_IMAGES [--images 64] [--rounds 3]

Random weights, float32. The two are timed in turn on the same images. Printed are images a second, the ratio in wall
time and in processor time (the latter hardly feels what else the machine does), the largest relative difference, and
the memory half-way through a longer run and at its end.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from open_clip.model import CustomTextCLIP
from open_clip.transform import image_transform
from PIL import Image

from radlens.core.transform import ImageTransform
from radlens.models.encode import encode_images
from radlens.models.encoder import OpenClipEncoder

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def make_encoder() -> OpenClipEncoder:
    vision = {"timm_model_name": "vit_base_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    text = {"width": 16, "heads": 2, "layers": 1, "vocab_size": 16}
    torch.manual_seed(0)
    card = {"name": "random ViT-B/16", "fingerprint": "random", "dimension": 512}
    model = CustomTextCLIP(512, vision, text)
    return OpenClipEncoder(
        model, lambda texts: torch.zeros(len(texts), 77).long(), ImageTransform(224, MEAN, STD), card, None
    )


def decode(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("L"))


def ours(encoder: OpenClipEncoder, paths: list[Path]) -> npt.NDArray[np.float32]:
    return np.concatenate([batch.embeddings for batch in encode_images(encoder, paths, decode)])


def plain(encoder: OpenClipEncoder, paths: list[Path]) -> npt.NDArray[np.float32]:
    preprocess = image_transform(224, is_train=False, mean=MEAN, std=STD)
    with torch.no_grad():
        rows = [encoder.model.encode_image(preprocess(Image.open(path))[None]) for path in paths]
    return torch.cat(rows).numpy()


def resident() -> float:
    """MiB of this process in memory now."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--images", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=3)
    asked = arguments.parse_args()
    paths = sorted(asked.folder.glob("*.png"))[: asked.images]
    encoder = make_encoder()
    timings: dict[str, list[float]] = {"plain": [], "radlens": []}
    processor: dict[str, list[float]] = {"plain": [], "radlens": []}
    found = {}
    plain(encoder, paths[:2])
    ours(encoder, paths[:8])
    for _ in range(asked.rounds):
        for name, run in (("plain", plain), ("radlens", ours)):
            start, worked = time.perf_counter(), time.process_time()
            found[name] = run(encoder, paths)
            processor[name].append(time.process_time() - worked)
            timings[name].append(time.perf_counter() - start)
    ratios = [slow / fast for slow, fast in zip(timings["plain"], timings["radlens"], strict=True)]
    difference = np.abs(found["plain"] - found["radlens"]).max() / np.abs(found["plain"]).max()
    for name, seconds in timings.items():
        print(f"{name:8} {len(paths) / statistics.median(seconds):6.2f} images/s")
    print(f"ratio    {statistics.median(ratios):6.2f} (rounds: {', '.join(f'{r:.2f}' for r in ratios)}; aim 1.3)")
    spent = statistics.median(processor["plain"]) / statistics.median(processor["radlens"])
    print(f"ratio of processor time {spent:.2f}")
    print(f"largest relative difference {difference:.1e} (allowed 1e-4)")
    sizes = [resident() for _ in encode_images(encoder, paths * 2, decode)]
    print(f"memory: {sizes[len(sizes) // 2]:.0f} MiB half-way, {sizes[-1]:.0f} MiB at the end")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
