"""How far packing is: a bar on a terminal, a line now and then elsewhere. Both on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_SECONDS = 15.0


@contextmanager
def show_progress(title: str, *, total: int, done: int, enabled: bool) -> Iterator[Callable[[], None]]:
    """Yield a function to call once per image.

    Args:
        title: what is being done.
        total: images in all.
        done: images finished by an earlier run.
        enabled: False shows nothing.
    """
    console = Console(stderr=True, quiet=not enabled, highlight=False, markup=False)
    if not console.is_terminal:
        yield _lines(console, title, total=total, done=done)
        return
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn(title, markup=False), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not enabled) as bar:
        task = bar.add_task(title, total=total, completed=done, rate="")
        start, count = time.monotonic(), 0

        def advance() -> None:
            nonlocal count
            count += 1
            bar.update(task, advance=1, rate=_rate(count, start))

        yield advance


def _rate(count: int, start: float) -> str:
    return f"{count / max(time.monotonic() - start, 1e-3):,.0f} img/s"


def _lines(console: Console, title: str, *, total: int, done: int) -> Callable[[], None]:
    start = shown = time.monotonic()
    count = done
    console.print(f"{title}: {done:,} of {total:,} images", soft_wrap=True)

    def advance() -> None:
        nonlocal count, shown
        count += 1
        now = time.monotonic()
        if count == total or now - shown > _LINE_EVERY_SECONDS:
            shown = now
            console.print(f"{title}: {count:,} of {total:,} images, {_rate(count - done, start)}", soft_wrap=True)

    return advance
