"""The linear probe against the usual DataLoader loop, both run here, in turn: seconds, losses and the ratio.

    python benchmarks/probe.py [--epochs 100] [--threads 1]

Exit code 1 when the probe takes more than a fifth of the loop's time, or the two end in different losses.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from radlens.adapt.logistic import binary_cross_entropy, fit_logistic

Floats = npt.NDArray[np.float32]
IMAGES, DIMENSION, BATCH, RATE, DECAY = 7470, 512, 24, 1e-3, 1e-2
# shares of positives as among IU-Xray's 14 labels
PREVALENCE = (0.6, 0.03, 0.11, 0.13, 0.04, 0.012, 0.008, 0.02, 0.08, 0.006, 0.04, 0.015, 0.021, 0.05)


def cohort(seed: int = 0) -> tuple[Floats, Floats]:
    """Embeddings (N, D) with a planted direction a label, and targets (N, L) drawn from it."""
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(IMAGES, DIMENSION))
    directions = generator.normal(size=(len(PREVALENCE), DIMENSION)) / DIMENSION**0.5
    scores = 2 * embeddings @ directions.T + generator.logistic(size=(IMAGES, len(PREVALENCE)))
    cuts = [np.quantile(scores[:, i], 1 - share) for i, share in enumerate(PREVALENCE)]
    return embeddings.astype(np.float32), (scores > np.array(cuts)).astype(np.float32)


def loop(embeddings: Floats, targets: Floats, epochs: int) -> tuple[Floats, Floats]:
    """The usual loop: DataLoader, nn.Linear, autograd, AdamW, cosine schedule."""
    data = TensorDataset(torch.from_numpy(embeddings), torch.from_numpy(targets))
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, generator=torch.Generator().manual_seed(0))
    layer = nn.Linear(embeddings.shape[1], targets.shape[1])
    optimiser = torch.optim.AdamW(layer.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    criterion = nn.BCEWithLogitsLoss()
    for _ in range(epochs):
        for x, y in loader:
            optimiser.zero_grad()
            criterion(layer(x), y).backward()
            optimiser.step()
        schedule.step()
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def measured(fit: Callable[[], tuple[Floats, Floats]], embeddings: Floats, targets: Floats) -> tuple[float, float]:
    """Seconds of a fit, and its weights' loss over all images."""
    begun = time.perf_counter()
    weight, bias = fit()
    seconds = time.perf_counter() - begun
    return seconds, binary_cross_entropy(embeddings @ weight.T + bias, targets)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1, help="of torch; more than one slows the loop")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"machine: {platform.platform()}, {platform.machine()}, {os.cpu_count()} cores, {arguments.threads} threads")
    print(f"torch {torch.__version__}, numpy {np.__version__}")
    print(f"{IMAGES} x {DIMENSION} embeddings, {len(PREVALENCE)} labels, {arguments.epochs} epochs of batch {BATCH}")
    embeddings, targets = cohort()

    def probe() -> tuple[Floats, Floats]:
        ours = fit_logistic(
            (embeddings, targets),
            (embeddings, targets),
            learning_rate=RATE,
            weight_decay=DECAY,
            epochs=arguments.epochs,
            batch_size=BATCH,
            patience=arguments.epochs,
            generator=np.random.default_rng(0),
        )
        return ours.weight, ours.bias

    # the probe before and after the loop, so that other work on the machine slows both alike
    before, own_loss = measured(probe, embeddings, targets)
    loop_seconds, loop_loss = measured(lambda: loop(embeddings, targets, arguments.epochs), embeddings, targets)
    after, _ = measured(probe, embeddings, targets)
    own_seconds = (before + after) / 2
    ratio, apart = own_seconds / loop_seconds, abs(own_loss - loop_loss) / loop_loss
    print(f"radlens probe    {own_seconds:7.2f} s ({before:.2f} and {after:.2f})   end loss {own_loss:.6f}")
    print(f"DataLoader loop  {loop_seconds:7.2f} s   end loss {loop_loss:.6f}")
    print(f"ratio {ratio:.3f} (1/{1 / ratio:.1f}; at most 1/5)   losses differ by {apart:.2%} (at most 1%)")
    return 0 if ratio <= 0.2 and apart <= 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
