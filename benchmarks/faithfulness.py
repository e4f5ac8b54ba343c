"""Deletion, insertion and ROAD in batches against a loop of one perturbed image at a time, with the same numbers.

Three ways to the same table, one after the other in one process with the same threads, on radlens-tiny:

- `loop`: every curve of every target and map is followed anew, a forward an image (random and prior order too), ROAD
  filled by scipy's sparse direct solver;
- `sharing loop`: the same, but what was perturbed once is looked up;
- `batched`: `faithfulness`.

The figures of all three are compared before any ratio is printed.
"""

from __future__ import annotations

import argparse
import platform
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

from radlens.core.classifier import Classifier, Head
from radlens.core.regions import SaliencyMaps
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache, default_cache
from radlens.core.vocabulary import load_vocabulary
from radlens.explain.baselines import centre_map
from radlens.explain.maps import saliency_maps
from radlens.explain.trust.curves import CHECKS, area
from radlens.explain.trust.faithfulness import faithfulness
from radlens.models.loading import load_encoder, resolve

STEPS, RANDOM = 8, 4


def imputed(image: np.ndarray, removed: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """ROAD's system for one image (3, H, W), solved directly."""
    height, width = removed.shape
    y, x = np.nonzero(removed)
    number = np.full((height, width), -1)
    number[y, x] = np.arange(len(y))
    diagonal, right = np.zeros(len(y)), np.zeros((len(y), 3))
    rows, columns, values = [], [], []
    for down, across in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)):
        weight = 1 / 6 if down == 0 or across == 0 else 1 / 12
        inside = np.flatnonzero((y + down >= 0) & (y + down < height) & (x + across >= 0) & (x + across < width))
        diagonal[inside] += weight
        beside = y[inside] + down, x[inside] + across
        open_ones = number[beside] >= 0
        rows.append(inside[open_ones])
        columns.append(number[beside][open_ones])
        values.append(np.full(int(open_ones.sum()), -weight))
        known = tuple(at[~open_ones] for at in beside)
        right[inside[~open_ones]] += weight * image[:, known[0], known[1]].T
    rows.append(np.arange(len(y)))
    columns.append(np.arange(len(y)))
    values.append(diagonal)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    system = splu(csc_matrix(entries, (len(y), len(y))), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    out = image.copy()
    out[:, y, x] = system.solve(right).T + noise[:, y, x]
    return out


def clocks() -> np.ndarray:
    """Seconds by the wall and by the processor; the second holds on a machine that others use too."""
    return np.array([time.perf_counter(), time.process_time()])


class Loop:
    """One perturbed image at a time."""

    def __init__(self, classifier: Classifier, *, sharing: bool) -> None:
        self.classifier, self.sharing = classifier, sharing
        self.rows, self.columns = classifier.encoder.grid
        self.known: dict[tuple[str, bool, bytes], np.ndarray] = {}
        self.forwards = 0

    def logits(self, image_id: str, image: np.ndarray, noise: np.ndarray, gone: np.ndarray, road: bool) -> np.ndarray:
        key = (image_id, road and bool(gone.any()), gone.tobytes())
        if self.sharing and key in self.known:
            return self.known[key]
        side = image.shape[1] // self.rows
        removed = np.kron(gone.reshape(self.rows, self.columns), np.ones((side, side), bool))
        if road and gone.any():
            filled = imputed(image, removed, noise)
        elif gone.any():
            blurred = np.stack([gaussian_filter(p, float(side), mode="nearest", truncate=3.0) for p in image])
            filled = np.where(removed, blurred, image)
        else:
            filled = image
        with torch.no_grad():
            found = self.classifier.logits(torch.from_numpy(filled[None]).float())[0].double().numpy()
        self.forwards += 1
        self.known[key] = found
        return found

    def change(self, check: str, label: int, order: np.ndarray, *image: object) -> float:
        """How far the logit falls (insertion: rises) on average along an order."""
        patches = self.rows * self.columns
        counts = np.floor(np.arange(STEPS + (check != "road")) * patches / STEPS + 0.5).astype(int)
        place = np.argsort(order)
        masks = [place >= count if check == "insertion" else place < count for count in counts]
        curve = np.array([self.logits(*image, mask, check == "road")[label] for mask in masks])  # type: ignore[arg-type]
        moved = float(area(curve, counts / patches) - curve[0])
        return moved if check == "insertion" else -moved

    def table(
        self, pixels: np.ndarray, maps: SaliencyMaps, targets: list[tuple[str, str]]
    ) -> dict[tuple[str, ...], list[float]]:
        """(check, label, method, layer) -> [own, random, prior], means over targets."""
        found: dict[tuple[str, ...], list[list[float]]] = {}
        patches = self.rows * self.columns
        for image_id, label in targets:
            at, column = maps.image_ids.index(image_id), maps.labels.index(label)
            # the stream that `faithfulness` draws from
            random = np.random.default_rng([0, zlib.crc32(image_id.encode())])
            draw = random.permutation(patches)
            drawn = [
                order for _ in range(RANDOM // 2) for one in [random.permutation(patches)] for order in (one, one[::-1])
            ]
            noise = 0.01 * random.standard_normal(pixels[at].shape, np.float32)
            prior = np.lexsort((draw, -centre_map(self.rows, self.columns).ravel().astype(float)))
            for check in CHECKS:
                for method, layer in np.ndindex(len(maps.methods), len(maps.layers)):
                    order = np.lexsort((draw, -maps.maps[at, column, method, layer].ravel().astype(float)))
                    follow = [(image_id, pixels[at], noise)]
                    own = self.change(check, column, order, *follow[0])
                    ways = [one[::-1] if check == "insertion" else one for one in drawn]
                    chance = float(np.mean([self.change(check, column, way, *follow[0]) for way in ways]))
                    key = (check, label, maps.methods[method], maps.layers[layer])
                    found.setdefault(key, []).append([own, chance, self.change(check, column, prior, *follow[0])])
        return {key: np.mean(rows, axis=0).tolist() for key, rows in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--labels", type=int, default=3)
    parser.add_argument("--layers", default="-1,-3")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    encoder = load_encoder(resolve(ModelSpec(name="radlens-tiny"), Path(), Cache(default_cache())), "cpu")
    vocabulary = load_vocabulary("chexpert-14")
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(len(vocabulary), encoder.dimension, generator=generator)
    classifier = Classifier(
        "linear-probe", Head(weight, torch.zeros(len(vocabulary)), normalise=False), vocabulary, encoder
    )
    random = np.random.default_rng(0)
    size = encoder.transform.size
    grey = np.stack([gaussian_filter(random.normal(size=(size, size)), 6.0) for _ in range(arguments.images)])
    pixels = np.repeat((grey / grey.std())[:, None], 3, axis=1).astype(np.float32)
    ids = [f"image {i}" for i in range(arguments.images)]
    layers = [int(layer) for layer in arguments.layers.split(",")]
    maps = saliency_maps(classifier, [pixels], ids, ("grad-cam", "hires-cam"), layers)
    targets = [(image_id, label) for image_id in ids for label in vocabulary.names[: arguments.labels]]
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}")
    print(
        f"{len(ids)} images, {len(targets)} targets, {2 * len(layers)} maps each, {STEPS} steps, {RANDOM} random orders"
    )

    seconds, tables = {}, {}
    start = clocks()
    evidence, curves = faithfulness(classifier, [pixels], ids, ids, maps, targets, steps=STEPS, random_orders=RANDOM)
    seconds["batched"] = clocks() - start
    for name, sharing in (("sharing loop", True), ("loop", False)):
        loop = Loop(classifier, sharing=sharing)
        start = clocks()
        tables[name] = loop.table(pixels, maps, targets)
        seconds[name] = clocks() - start
        print(f"{name}: {loop.forwards} forwards, {seconds[name][0]:.1f} s ({seconds[name][1]:.1f} s of processor)")
    print(f"batched: {seconds['batched'][0]:.1f} s ({seconds['batched'][1]:.1f} s of processor)")

    worst = 0.0
    for name, table in tables.items():
        for (check, label, method, layer), (own, chance, prior) in table.items():
            row = evidence.filter(check=check, label=label, method=method, layer=layer).row(0, named=True)
            far = max(abs(row["value"] - own), min(abs(row["rival"] - chance), abs(row["rival"] - prior)))
            worst = max(worst, far / curves["logit"].std())
        print(f"largest difference to {name}: {worst:.1e} of the logits' standard deviation")
        if worst > 0.01:
            raise SystemExit("the figures differ; no ratio is printed.")
    for name in tables:
        wall, processor = seconds[name] / seconds["batched"]
        print(f"{name} / batched: {wall:.1f} by the wall, {processor:.1f} of processor")


if __name__ == "__main__":
    main()
