"""What was loaded through `framework.interop` in this run; printed as a table at the end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Imports:
    """Of one kind."""

    configurations: set[str] = field(default_factory=set)
    """Published networks whose names and shapes were loaded, with equal numbers of parameters."""
    outputs: dict[str, float] = field(default_factory=dict)
    """Largest deviation from a recorded output, relative to its maximum, by network and output."""

    def agrees(self, name: str, ours: Tensor, recorded: Tensor, *, tolerance: float) -> None:
        """Assert `max |ours - recorded| <= tolerance * max |recorded|`."""
        recorded = recorded.view(ours.shape)
        deviation = ((ours - recorded).abs().max() / recorded.abs().max()).item()
        self.outputs[name] = max(deviation, self.outputs.get(name, 0.0))
        assert deviation <= tolerance, f"{name} deviates by {deviation:.1e}"


table: defaultdict[str, Imports] = defaultdict(Imports)
"""By kind."""


def lines() -> list[str]:
    """The table."""
    return [
        f"import {kind}: {len(found.configurations)} configurations, {len(found.outputs)} recorded outputs, "
        f"largest relative deviation {max(found.outputs.values(), default=0.0):.1e}"
        for kind, found in sorted(table.items())
    ]
