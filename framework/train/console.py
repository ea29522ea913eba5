"""Show a person how training goes: a live progress bar on a terminal, plain status lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from framework.utils.quantities import format_duration


class _Details(ProgressColumn):
    """A column with images, speed, time left and losses."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["details"])


class Status:
    """The progress of a run towards `total` images, starting at `images`."""

    def __init__(self, *, name: str, images_seen: int, total: int, quiet: bool = False) -> None:
        self._name, self._total, self._quiet = name, total, quiet
        self._console = Console(stderr=False)
        self._mark = (time.monotonic(), images_seen)
        self._speed: float | None = None
        self._losses = ""
        self._live: Progress | None = None
        if self._console.is_terminal and not quiet:
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                _Details(),
                console=self._console,
            )
            self._task = self._live.add_task(name, total=total, completed=images_seen, details="starting")

    def __enter__(self) -> Status:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line that stays, above the bar on a terminal."""
        if self._quiet:
            return
        if self._live:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)

    def advance(self, images_seen: int, *, phase: str) -> None:
        """Move the bar, without reading from the device."""
        if self._live:
            self._live.update(self._task, completed=images_seen, description=phase, details=self._details(images_seen))

    def report(self, images_seen: int, metrics: dict[str, float], *, phase: str) -> None:
        """Show new losses and the speed since the last report; where there is no terminal, print a line."""
        now = time.monotonic()
        elapsed, seen = now - self._mark[0], images_seen - self._mark[1]
        if seen > 0 and elapsed > 0:
            self._speed = seen / elapsed
        self._mark = (now, images_seen)  # also after the clock was set back
        self._losses = "  ".join(f"{name} {metrics[name]:.3f}" for name in ("loss/D", "loss/G") if name in metrics)
        if self._live:
            self.advance(images_seen, phase=phase)
        elif not self._quiet:
            print(f"{phase}  {self._details(images_seen)}", flush=True)

    def _details(self, images_seen: int) -> str:
        parts = [f"{images_seen:,}/{self._total:,} images"]
        if self._speed:
            parts += [f"{self._speed:,.0f} img/s", f"ETA {format_duration((self._total - images_seen) / self._speed)}"]
        if self._losses:
            parts.append(self._losses)
        return "  ".join(parts)


def short(path: Path) -> str:
    """Return the path relative to the current folder, where that is possible."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def fail(message: str) -> None:
    """Print an error that the user can mend on stderr, without a traceback."""
    _print(f"[bold red]error:[/] {_escaped(message)}")


def warn(message: str) -> None:
    """Print a warning on stderr."""
    _print(f"[bold yellow]warning:[/] {_escaped(message)}")


def _print(markup: str) -> None:
    Console(stderr=True, soft_wrap=True).print(markup, highlight=False)
    sys.stderr.flush()


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
