"""Scoring maps against regions of large films: without enlarging them, against the plain way, in one run.

`radlens`: every score of one map an image and label (1,000 images x 14 labels by default) against its own region in a
film of 2048 x 2496 pixels, rastering of the regions included; then the whole of `pair_scores`, which scores four more
maps beside each (another patient's, centre, label prior, oracle).
`plain`: the same scores by the definitions, each map enlarged to all pixels of the film, on a sample of the same maps.
Both are run in this process, in turn, with the same threads; the ratio is of seconds a map. The largest difference
between the two is printed for each score, and the peak of memory at half of the maps and at the end.
`--polygons` is the share of regions that are outlines of 24 corners; the others are boxes.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from radlens.core.regions import Annotations, Box, Geometry, Polygon, Region, SaliencyMaps
from radlens.core.shapes import Shape
from radlens.explain.localization import SCORES, scores
from radlens.explain.pair_scores import pair_scores
from radlens.explain.region_pixels import region_pixels
from radlens.explain.sampled_region import sampled_region
from radlens.explain.sampled_scores import score_maps

LABELS = 14
GRID = (14, 14)
Row = npt.NDArray[np.float64]


def shape(generator: np.random.Generator, width: int, height: int, polygons: float) -> Shape:
    """A region between a nodule and a heart in size."""
    w, h = generator.uniform(0.03, 0.4, 2) * (width, height)
    x, y = generator.uniform(0, width - w), generator.uniform(0.05 * height, 0.95 * height - h)
    if generator.random() >= polygons:
        return Box(x, y, w, h)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    outline = zip(x + w / 2 * (1 + np.cos(angles)), y + h / 2 * (1 + np.sin(angles)), strict=True)
    return Polygon(tuple((float(across), float(down)) for across, down in outline))


def peak() -> float:
    """MB of memory at its highest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--height", type=int, default=2496)
    parser.add_argument("--polygons", type=float, default=0.0)
    parser.add_argument("--sample", type=int, default=20, help="maps that are also scored the plain way")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    geometry = Geometry(options.width, options.height, 224)
    images = tuple(f"image {k}" for k in range(options.images))
    labels = tuple(f"label {k}" for k in range(LABELS))
    # a rectified map, as Grad-CAM's: about half of it zero, a few patches high
    maps = np.zeros((len(images), LABELS, 1, 1, *GRID), np.float16)
    for own in maps:
        raw = np.maximum(generator.standard_normal(own.shape), 0) ** 2
        own[:] = raw / raw.max(axis=(-1, -2), keepdims=True)
    drawn = {
        (image, label): shape(generator, options.width, options.height, options.polygons)
        for image in range(len(images))
        for label in range(LABELS)
    }
    shares = np.array([0.5])

    def one(place: tuple[int, int]) -> Row:
        pixels = region_pixels([drawn[place]], options.height, options.width)
        found: Row = score_maps(maps[place].reshape(1, *GRID), sampled_region(pixels, geometry, GRID), shares=shares)[0]
        return found

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {options.threads} threads")
    print(f"{len(images)} images x {LABELS} labels, films of {options.width} x {options.height}")
    places = list(drawn)
    one(places[0])
    found, peaks, seconds = [], [], 0.0
    with ThreadPoolExecutor(options.threads) as pool:
        for half in (places[: len(places) // 2], places[len(places) // 2 :]):
            started = time.perf_counter()
            found += list(pool.map(one, half))
            seconds += time.perf_counter() - started
            peaks.append(peak())
    each = seconds / len(places)
    print(
        f"radlens: {seconds:.1f} s, {each * 1e3:.2f} ms a map; peak {peaks[0]:.0f} MB at half, {peaks[1]:.0f} MB at end"
    )

    regions = tuple(Region(images[i], labels[k], drawn[i, k]) for i, k in places)
    results = {"setting": SaliencyMaps(images, labels, ("grad-cam",), ("-1",), maps)}
    geometries, patients = dict.fromkeys(images, geometry), {image: image for image in images}
    started = time.perf_counter()
    table = pair_scores(results, Annotations(regions, "drawn"), geometries, patients, threads=options.threads)
    seconds = time.perf_counter() - started
    print(f"with all baselines: {seconds:.1f} s, {table.height} maps, {seconds / table.height * 1e3:.2f} ms a map")

    visible = geometry.visible_mask()
    sample = generator.choice(len(places), min(options.sample, len(places)), replace=False)

    def plain(at: int) -> list[float]:
        grid, region = maps[places[at]].reshape(GRID), drawn[places[at]].mask(options.height, options.width)
        return list(scores(geometry.enlarge(grid.astype(np.float32)), region, visible, share=0.5).values())

    started = time.perf_counter()
    with ThreadPoolExecutor(options.threads) as pool:
        slow = np.array(list(pool.map(plain, sample)))
    plain_each = (time.perf_counter() - started) / len(sample)
    print(f"plain: {plain_each * 1e3:.0f} ms a map on {len(sample)} of them; ratio {plain_each / each:.0f}")
    worst = np.nanmax(np.abs(np.array(found)[sample] - slow), axis=0)
    print("largest difference: " + ", ".join(f"{name} {value:.5f}" for name, value in zip(SCORES, worst, strict=True)))


if __name__ == "__main__":
    main()
