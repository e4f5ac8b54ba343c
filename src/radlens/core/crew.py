"""The processes that run one study together: every one runs the same stages, the first alone writes.

Started by `torchrun` (or `compute.devices` above 1, which starts it), each process finds its number in the environment.
Alone, nothing of this costs anything, and torch is not imported.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Crew:
    """rank: this process, 0 is first. world: how many there are. local_rank: its number on its own machine."""

    def __init__(self, rank: int = 0, world: int = 1, local_rank: int = 0) -> None:
        self.rank, self.world, self.local_rank = rank, world, local_rank

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def agree(self, value: T) -> T:
        """What the first process holds, for all of them; `value` must be plain (JSON-like)."""
        if self.world == 1:
            return value
        held: list[Any] = [value]
        _group().broadcast_object_list(held, src=0)
        return cast(T, held[0])

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            # a broadcast, since a barrier on NCCL guesses its device
            self.agree(None)

    @contextlib.contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """The block runs in the first process, then in the others, which find what it left in the cache."""
        if not self.first:
            self.barrier()
        yield
        if self.first:
            self.barrier()

    def mine(self, count: int) -> range:
        """This process's share of `count` pieces of work: every `world`-th of them."""
        return range(self.rank, count, self.world)


@cache
def crew() -> Crew:
    """The crew that the environment names; its process group is opened on first use. Alone: a crew of one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        return Crew()
    _group()
    return Crew(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")))


def _group() -> Any:
    import torch
    import torch.distributed

    distributed: Any = torch.distributed
    if not distributed.is_initialized():
        # CPU tensors travel by gloo in every case: what is agreed on is small and plain
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group(backend)
    return distributed
