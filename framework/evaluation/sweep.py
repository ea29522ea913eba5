"""Truncation sweeps: fidelity against diversity by psi (arXiv:1812.04948) or by truncation (arXiv:1809.11096)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from framework.evaluation.errors import EvaluationError
from framework.evaluation.figure import sweep_svg
from framework.evaluation.metrics.base import Metric
from framework.evaluation.protocol import Record
from framework.utils.atomic import write_atomically

_FRECHET = ("fid", "fd")
_SHARES = ("precision", "recall", "coverage")


@dataclass(frozen=True, kw_only=True)
class Place:
    """One point of a sweep."""

    psi: float | None = None
    truncation: float | None = None
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The truncations at which checkpoints are measured; a single place is not a sweep.

    Attributes:
        axis: `psi` or `truncation`; empty when there is one place.
    """

    places: tuple[Place, ...]
    axis: str = ""

    @classmethod
    def of(cls, *, psi: Sequence[float], truncation: Sequence[float]) -> Sweep:
        """Return the sweep over the values of a command line.

        Raises:
            EvaluationError: both flags have several values.
        """
        if len(psi) > 1 and len(truncation) > 1:
            raise EvaluationError("--psi and --truncation: sweep over one of them")
        if len(psi) <= 1 and len(truncation) <= 1:
            return cls(places=(Place(psi=next(iter(psi), None), truncation=next(iter(truncation), None)),))
        if len(psi) > 1:
            fixed = next(iter(truncation), None)
            places = tuple(Place(psi=value, truncation=fixed, title=f"psi={value:g}") for value in sorted(set(psi)))
            return cls(places=places, axis="psi")
        fixed = next(iter(psi), None)
        values = sorted(set(truncation))
        places = tuple(Place(psi=fixed, truncation=value, title=f"truncation={value:g}") for value in values)
        return cls(places=places, axis="truncation")

    def check(self, *, figure: Path | None, num_checkpoints: int, metrics: Sequence[Metric]) -> None:
        """Refuse a figure that cannot be drawn, before anything is measured.

        Raises:
            EvaluationError: the figure cannot be drawn; names the flag.
        """
        if figure is None:
            return
        if figure.suffix != ".svg":
            raise EvaluationError(f"--figure {figure}: the name must end in .svg")
        if not self.axis or num_checkpoints != 1:
            raise EvaluationError("--figure shows a sweep of one checkpoint: give --psi or --truncation several values")
        if not self.is_drawable(metrics):
            raise EvaluationError("--figure shows precision, recall and distances: ask for fid,pr")

    def is_drawable(self, metrics: Sequence[Metric]) -> bool:
        """Return whether these metrics give a curve to draw."""
        outputs = {output for metric in metrics for output in metric.outputs}
        return bool(self.axis) and not outputs.isdisjoint((*_FRECHET, *_SHARES))


def write_figure(path: Path, found: Mapping[str, Sequence[Record]], *, sweep: Sweep) -> Path:
    """Draw the records of a sweep, by the title of their place, as an SVG file, and return its path.

    Raises:
        EvaluationError: no value of the figure was measured.
    """
    values = [getattr(place, sweep.axis) for place in sweep.places]
    curves: dict[str, list[float | None]] = {}
    on_right: list[str] = []
    for index, place in enumerate(sweep.places):
        for record in found[place.title]:
            output = record.protocol.metric
            if output in _FRECHET + _SHARES:
                curves.setdefault(record.name, [None] * len(values))[index] = record.value
                if output in _FRECHET and record.name not in on_right:
                    on_right.append(record.name)
    drawn = [r for records in found.values() for r in records if r.name in curves and r.value is not None]
    if not drawn:
        raise EvaluationError("no figure of the sweep: everything that it would show is missing")
    some = drawn[0]
    made = some.protocol.generated
    note = f"{some.protocol.extractor['name']}, {made['count']:,} images, seed {made['seed']}"
    clock = some.subject.get("images_seen")
    title = f"Fidelity and diversity by {sweep.axis}" + (f", {clock:,} images seen" if clock is not None else "")
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_atomically(path, sweep_svg(values, curves, axis=sweep.axis, title=title, on_right=on_right, note=note))
