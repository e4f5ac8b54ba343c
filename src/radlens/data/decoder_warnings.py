"""Hear the warnings of a decoder in the thread that runs it, and of no other.

Before Python 3.14 `warnings.catch_warnings` swaps filters of the whole process, so that threads would have to take
turns. Here one filter stands before all others for as long as any thread listens. It matches in threads that listen
and nowhere else, and what it matches it keeps: the filters of other code go on deciding for other threads.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator, KeysView
from typing import Any

_NOTHING = "(?!)"


class _Listener(threading.local):
    """Stands where a filter has its pattern for the message; `match` is another one in each thread.

    Both are functions in C: Python code here would let threads change place in the middle of Python's walk through
    the filters, which does not expect that.
    """

    match: Any = re.compile(_NOTHING).match

    def __reduce__(self) -> tuple[Any, ...]:
        # libraries send the filters of a process to their workers
        return re.compile, (_NOTHING,)


_LISTENER = _Listener()
_FILTER: Any = ("ignore", _LISTENER, Warning, None, 0)
_MARK: Any = ("ignore", re.compile(_NOTHING, re.IGNORECASE), Warning, None, 0)
_lock = threading.Lock()
_lists: list[list[Any]] = []
"""The lists of filters that hold ours: `catch_warnings` elsewhere replaces `warnings.filters` and puts it back."""
_listening = 0


@contextlib.contextmanager
def heard_warnings() -> Iterator[KeysView[str]]:
    """Yield the texts (each once, in order) of the warnings that this thread makes inside the block; none is shown.

    Many threads may be inside at a time. Warnings of other threads are shown, raised or ignored as if nobody listened;
    the only trace is that Python, told to show a warning once, may show it once more. Other code that puts a filter in
    front during the block, or ends a `catch_warnings` that began before it, takes the warnings that are still to come.
    """
    # A missing key is made by the factory, so that looking one up both records it and answers with a true value.
    texts: defaultdict[str, int] = defaultdict(itertools.count(1).__next__)
    outer = _LISTENER.match
    _enter()
    _LISTENER.match = texts.__getitem__
    try:
        yield texts.keys()
    finally:
        _LISTENER.match = outer
        _leave()


def _enter() -> None:
    global _listening
    with _lock:
        _listening += 1
        filters: list[Any] = warnings.filters  # type: ignore[assignment]
        if not filters or filters[0] is not _FILTER:
            if not any(known is filters for known in _lists):
                _lists.append(filters)
            _remove(filters)
            filters.insert(0, _FILTER)
        _forget_what_was_shown()


def _leave() -> None:
    global _listening
    with _lock:
        _listening -= 1
        if _listening == 0:
            for filters in (*_lists, warnings.filters):
                _remove(filters)  # type: ignore[arg-type]
            _lists.clear()


def _remove(filters: list[Any]) -> None:
    for index in reversed([index for index, entry in enumerate(filters) if entry is _FILTER or entry == _MARK]):
        del filters[index]


def _forget_what_was_shown() -> None:
    # Python drops a warning that it has shown before without asking any filter, until the filters change: any change
    # by its own functions will do, and this one matches nothing.
    warnings.filterwarnings("ignore", message=_NOTHING)
    with contextlib.suppress(ValueError):
        warnings.filters.remove(_MARK)  # type: ignore[attr-defined]
