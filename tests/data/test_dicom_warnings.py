"""Warnings heard by the thread that makes them, however many threads decode at a time."""

from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from radlens.data.decoder_warnings import heard_warnings


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """One line for all, so that Python's memory of what it has shown is shared by all threads."""
    warnings.warn(text, category, stacklevel=1)


def in_a_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_texts_are_heard_once_in_order_and_the_filters_are_as_before() -> None:
    before = list(warnings.filters)
    with heard_warnings() as texts:
        warn("b")
        warn("a", DeprecationWarning)
        warn("b")
        assert list(warnings.filters) != before
    assert list(texts) == ["b", "a"]
    assert list(warnings.filters) == before
    with pytest.raises(UserWarning, match="loud again"):
        warn("loud again")


def test_restored_after_an_error() -> None:
    before = list(warnings.filters)
    with pytest.raises(ZeroDivisionError), heard_warnings():
        warn("unheard")
        raise ZeroDivisionError
    assert list(warnings.filters) == before


def test_one_inside_the_other_keeps_them_apart() -> None:
    with heard_warnings() as outer:
        warn("1")
        with heard_warnings() as inner:
            warn("2")
        warn("3")
    assert (list(outer), list(inner)) == (["1", "3"], ["2"])


@pytest.mark.parametrize("action", ["error", "ignore", "always", "default", "once"])
def test_other_threads_keep_their_filters(action: Any) -> None:
    def other() -> tuple[int, bool]:
        shown, raised = len(log), False
        for _ in range(3):
            try:
                warn("other")
            except UserWarning:
                raised = True
        return len(log) - shown, raised

    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter(action)
        alone = in_a_thread(other)
        with heard_warnings() as texts:
            warn("own")
            beside = in_a_thread(other)
    assert list(texts) == ["own"]
    assert beside == alone == {"always": (3, False), "error": (0, True), "ignore": (0, False)}.get(action, (1, False))


def test_what_was_shown_before_is_heard_all_the_same() -> None:
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter("default")
        warn("known")
        with heard_warnings() as texts:
            warn("known")
    assert (len(log), list(texts)) == (1, ["known"])


def test_catch_warnings_of_others_may_begin_or_end_in_between() -> None:
    before = list(warnings.filters)
    listening = heard_warnings()
    with warnings.catch_warnings():
        texts = listening.__enter__()
        warn("in their block")
    listening.__exit__(None, None, None)
    assert list(warnings.filters) == before

    listening = heard_warnings()
    listening.__enter__()
    with warnings.catch_warnings():
        listening.__exit__(None, None, None)
        assert list(warnings.filters) == before
    assert list(warnings.filters) == before
    assert "in their block" in texts


def test_filters_can_be_sent_to_another_process_meanwhile() -> None:
    with heard_warnings():
        sent = pickle.loads(pickle.dumps(list(warnings.filters)))  # noqa: S301 - our own list
    assert sent[0][1].match("anything") is None


def test_hammer() -> None:
    """Six threads listen again and again; two others and the main thread warn all the while."""
    threads, rounds = 6, 300
    before = list(warnings.filters)
    heard: dict[int, list[list[str]]] = {}
    begin, over = threading.Barrier(threads + 3), threading.Event()

    def listener(number: int) -> None:
        begin.wait()
        for index in range(rounds):
            with heard_warnings() as texts:
                for part in range(3):
                    warn(f"{number}.{index}.{part}")
                warn("the same for all")
            heard.setdefault(number, []).append(list(texts))

    def bystander() -> int:
        begin.wait()
        raised = 0
        while not over.is_set():
            for text in ("the same for all", "a bystander's"):
                with pytest.raises(UserWarning, match=text):
                    warn(text)
                raised += 1
        return raised

    with ThreadPoolExecutor(threads + 2) as pool:
        bystanders = [pool.submit(bystander) for _ in range(2)]
        listeners = [pool.submit(listener, number) for number in range(threads)]
        try:
            begin.wait()
            while not all(each.done() for each in listeners):
                with pytest.raises(UserWarning, match="main"):
                    warn("main")
        finally:
            over.set()
        for each in listeners:
            each.result()
        assert all(each.result() > 0 for each in bystanders)
    for number in range(threads):
        expected = [[*(f"{number}.{i}.{part}" for part in range(3)), "the same for all"] for i in range(rounds)]
        assert heard[number] == expected
    assert list(warnings.filters) == before
