"""Say what networks do in forward that several processes or a resumed run would do differently, and what to write.

The sentences are about `framework.networks.observe.Observed`; docs/decisions/008-what-a-network-may-do.md has reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from framework.networks.observe import Observed

_BLOCKS = "framework.networks.blocks"
_SHOWN = 4


class Tolerated(Enum):
    """The runs in which a habit does no harm."""

    NOWHERE = "nowhere"
    ONE_MICRO_BATCH = "with one micro-batch"
    ALONE = "on one process with one micro-batch"


@dataclass(frozen=True, kw_only=True)
class Habit:
    """A habit that a forward was seen to have, with a sentence for the user."""

    sentence: str
    tolerated: Tolerated


def habits(seen: Observed) -> Iterator[Habit]:
    """Yield what was seen, one sentence for each kind of habit."""
    for replacement, layers in _by_replacement(seen.draws):
        yield Habit(
            sentence=f"{_named(layers, seen.draws)} draws random numbers of its own in training, so that neither a "
            f"resumed run nor another number of processes would repeat them: {replacement}",
            tolerated=Tolerated.NOWHERE,
        )
    if seen.batch_norms:
        yield Habit(
            sentence=f"{_named(seen.batch_norms, seen.batch_norms)} normalises by the images of one process, so "
            f"that running statistics differ between processes: use {_BLOCKS}.norm.BatchNorm2d (with classes: "
            "ConditionalBatchNorm2d), whose statistics are those of all processes; it takes (N, C, H, W), and features "
            "(N, C) as x[..., None, None]",
            tolerated=Tolerated.ALONE,
        )
    if seen.power_iterations:
        yield Habit(
            sentence=f"{_named(seen.power_iterations, seen.power_iterations)} iterates in every forward, so that the "
            f"number of micro-batches changes the weights: use {_BLOCKS}.spectral.spectral_norm, which the game "
            "advances once per turn",
            tolerated=Tolerated.ONE_MICRO_BATCH,
        )
    if seen.changed:
        yield Habit(
            sentence=f"forward changes {_list(seen.changed)}, by the images of one process and once per micro-batch: "
            f"keep a moving mean in {_BLOCKS}.moving.MovingMean, which forward notes and the game moves (in a "
            "torch.nn.InstanceNorm: track_running_stats=False)",
            tolerated=Tolerated.ALONE,
        )


def _by_replacement(draws: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield what to write instead, and the layers it is for."""
    sorted_: dict[str, list[str]] = {}
    for layer, what in draws.items():
        sorted_.setdefault(_instead_of(what), []).append(layer)
    yield from sorted_.items()


def _instead_of(what: str) -> str:
    if what == "torch.nn.RReLU":
        return "use torch.nn.LeakyReLU"
    if what.startswith("torch.nn.FractionalMaxPool"):
        return "use torch.nn.MaxPool2d"
    if what in ("torch.nn.Dropout1d", "torch.nn.Dropout2d", "torch.nn.Dropout3d", "torch.nn.FeatureAlphaDropout"):
        return f"use {_BLOCKS}.dropout.Dropout with whole_channels=True, whose seeds come from the game"
    if "Dropout" in what or "bernoulli" in what or "dropout" in what:
        return f"use {_BLOCKS}.dropout.Dropout, whose seeds come from the game"
    return (
        "take them from the game, as keyword arguments of forward that a method stochastic(draw) returns "
        "(framework/networks/draw.py)"
    )


def _named(layers: Iterable[str], what: dict[str, str]) -> str:
    return _list([f"{layer} ({what[layer]})" if layer else f"forward ({what[layer]})" for layer in layers])


def _list(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
