"""What a long run tells: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from radlens.core.parts import Progress as Report

_EVERY_SECONDS = 15.0


class Teller:
    """Says what a study is doing. `quiet` says nothing but warnings."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, table: Table) -> None:
        """A table of results."""
        if not self.quiet:
            self.console.print(table)

    def warn(self, text: str) -> None:
        """One line that the user should not miss."""
        self.console.print(f"note: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def bar(self, title: str) -> Iterator[Report]:
        """A callback (done, total) that draws a bar, or now and then a line."""
        if self.quiet:
            yield lambda done, total: None
        elif self.console.is_terminal:
            columns = (
                TextColumn("  {task.description:<28}"),
                BarColumn(bar_width=32),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self.console, transient=True) as progress:
                task = progress.add_task(title, total=None)
                yield lambda done, total: progress.update(task, completed=done, total=total)
        else:
            yield self._lines(title)

    def _lines(self, title: str) -> Report:
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _EVERY_SECONDS and done < total:
                last = now
                self.say(f"  {title}: {done} of {total}")

        return report
