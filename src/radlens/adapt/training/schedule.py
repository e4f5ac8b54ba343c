"""Learning rates: by epoch, and by depth in the encoder."""

from __future__ import annotations

import math


def learning_rate(epoch: int, *, base: float, warm_up_epochs: int, epochs: int, unfrozen_factor: float) -> float:
    """The rate of a whole epoch, counted from 1.

    `base` while the head warms up alone; then a cosine over the remaining epochs that starts at `base` x
    `unfrozen_factor` and would reach 0 after the last (Loshchilov and Hutter, ICLR 2017, without restarts).
    """
    if epoch <= warm_up_epochs:
        return base
    done, total = epoch - warm_up_epochs - 1, epochs - warm_up_epochs
    return base * unfrozen_factor * (1 + math.cos(math.pi * done / total)) / 2


def rate_share(depth: int, blocks: int, decay: float) -> float:
    """Share of the rate at a depth of the tower: 1 after the last block, `decay` less for each block below.

    depth: 0 before the first block, 1 to `blocks` the blocks, `blocks` + 1 what follows. (Bao et al., ICLR 2022,
    appendix, as "layer-wise learning rate decay".)
    """
    return float(decay ** (blocks + 1 - depth))
