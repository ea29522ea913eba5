"""Every penalty with every normalisation on every engine, 2 processes against one: what the capability table rests on.

    python -m benchmarks.engine_matrix --capabilities     # the whole product, as a table

Tiny players (`tests/helpers/tiny.py`), a few steps. fp32 is compared with one process. Where rounding alone makes more
of a difference than the limit, because the function is ill-conditioned, the question is put in two halves: do one
process and two agree in float64, and does every engine agree with the replicated one on the same 2 processes? In bf16
and fp16 one process and two round differently, by the size of the precision itself, so there only the second half is
asked, where the same numbers are rounded in the same places.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from framework.engines.capabilities import ENGINES, NORMALISATIONS, PENALTIES, PRECISIONS
from tests.helpers.play import outputs, start, synthetic
from tests.helpers.spawn import run_ranks
from tests.helpers.tiny import recipe

STEPS = 3
LIMIT = 1e-5
"""Of the difference, relative to values above 1: rounding of fp32 sums in another order (2^-24 = 6e-8), through some
tens of operations, divided by the root of Adam's second moment."""

LIMIT_FLOAT64 = 1e-12
"""The same with 2^-53 = 1e-16, and a margin for ill-conditioned functions."""

LOW_PRECISION_LIMITS = {"fp16": 2e-4, "bf16": 1.6e-3}
"""The same rounding in the same places, but for values that rounding of sums moves across the border of two numbers of
the format: a fraction of their distance (5e-4 and 4e-3), see `tests/distributed/test_engine_precision.py`."""

Pair = tuple[tuple[str, ...], str]
"""Penalties and a normalisation."""

COVERING: list[Pair] = [
    (("none",), "none"),
    (("R1 joined", "Drift"), "spectral norm"),
    (("R1 lazy", "PathLength"), "batch norm"),
    (("R2", "LeCam"), "conditional batch norm"),
    (("FirstOrderR1",), "pixel norm"),
    (("GradientPenalty", "Orthogonal"), "AdaIN"),
    (("MaxGradientPenalty", "WeightDecay"), "weight demodulation"),
    (("Dragan", "Consistency"), "minibatch deviation"),
]
"""Every penalty and every normalisation once."""


def everything() -> list[Pair]:
    """The whole product."""
    return [((penalty,), kind) for penalty, kind in product(PENALTIES, NORMALISATIONS)]


def walk(engines: tuple[str, ...], pairs: list[Pair], precision: str = "fp32") -> dict[str, Tensor]:
    """Scores and outputs of every pair on every engine, in this process (group); `precision` may be float64, too."""
    results: dict[str, Tensor] = {}
    how: dict[str, Any] = {"dtype": torch.float64} if precision == "float64" else {"precision": precision}
    for engine, (penalties, kind) in product(engines, pairs):
        penalty = "+".join(penalties)
        played = start(recipe(penalties, kind), engine=engine, **how)
        try:
            found = _play(played) | outputs(played)
            if kind == "minibatch deviation":  # shown the same images on every process, it sees them several times
                del found["outputs/discriminator"]
        except Exception as error:
            error.add_note(f"{engine}, {penalty}, {kind}, {precision}")
            raise
        for player in played.state.players.values():
            player.close()
        results |= {f"{engine}/{penalty}/{kind}/{key}": value.double() for key, value in found.items()}
    return results


def _play(played: Any) -> dict[str, Tensor]:
    for player in played.state.players.values():
        # Where no step is skipped: which gradients just overflow is a matter of rounding.
        player.load_state({"loss_scale": 256.0, "good_steps": 0.0})
    batches, results = synthetic(played.recipe, played.partition), {}
    for index in range(STEPS):
        metrics, finite = played.game.step(batches, images_seen=index * played.game.images_of_step(0))
        results[f"{index}/finite"] = torch.tensor(float(finite))
        for name, value in metrics.means(device=torch.device("cpu")).items():
            results[f"{index}/{name}"] = torch.tensor(value, dtype=torch.float64)
    return results


def differences(
    expected: dict[str, Tensor], found: dict[str, Tensor], *, engine: str, reference: str
) -> dict[tuple[str, str], float]:
    """The largest difference per pair, of values above 1 relative to them."""
    largest: dict[tuple[str, str], float] = {}
    for key, value in found.items():
        owner, penalty, kind, what = key.split("/", 3)
        if owner == engine:
            wanted = expected[f"{reference}/{penalty}/{kind}/{what}"]
            difference = float(((wanted - value).abs() / wanted.abs().clamp(min=1.0)).max())
            pair = (penalty, kind)
            largest[pair] = max(largest.get(pair, 0.0), difference if difference == difference else float("inf"))
    return largest


def rows(pairs: list[Pair], *, precisions: tuple[str, ...] = PRECISIONS) -> list[dict[str, Any]]:
    """One row per engine, precision and pair."""
    report = []
    for precision in precisions:
        limit = LOW_PRECISION_LIMITS.get(precision, LIMIT)
        many = run_ranks(walk, 2, ENGINES, pairs, precision, timeout_seconds=3600.0)[0]
        expected = (
            run_ranks(walk, 1, ("ddp",), pairs, precision, timeout_seconds=3600.0)[0] if precision == "fp32" else many
        )
        beyond = differences(expected, many, engine="ddp", reference="ddp")
        exact = _in_float64([pair for pair in pairs if beyond["+".join(pair[0]), pair[1]] > limit])
        for engine in ENGINES:
            beside = differences(many, many, engine=engine, reference="ddp")
            for pair, largest in differences(expected, many, engine=engine, reference="ddp").items():
                row: dict[str, Any] = {"engine": engine, "precision": precision}
                row |= {"penalty": pair[0], "normalisation": pair[1], "max_difference": largest}
                right = largest <= limit
                if pair in exact:
                    row |= {"in_float64": exact[pair], "beside_ddp": beside[pair]}
                    right = exact[pair] <= LIMIT_FLOAT64 and beside[pair] <= limit
                report.append(row | {"status": "ok" if right else "differs"})
    return report


def _in_float64(pairs: list[Pair]) -> dict[tuple[str, str], float]:
    """How far one process and two are apart where fp32 does not round: what is not rounding would show here."""
    if not pairs:
        return {}
    one, two = (run_ranks(walk, n, ("ddp",), pairs, "float64", timeout_seconds=600.0)[0] for n in (1, 2))
    return differences(one, two, engine="ddp", reference="ddp")


def tables(report: list[dict[str, Any]]) -> list[Table]:
    """One table per precision: the worst engine of each pair."""
    found = []
    for precision in dict.fromkeys(row["precision"] for row in report):
        table = Table(
            "penalty \\ normalisation", *NORMALISATIONS, title=f"{precision}: largest difference of any engine"
        )
        for penalty in PENALTIES:
            cells = []
            for kind in NORMALISATIONS:
                chosen = [
                    row["max_difference"]
                    for row in report
                    if (row["precision"], row["penalty"], row["normalisation"]) == (precision, penalty, kind)
                ]
                cells.append(f"{max(chosen):.0e}" if chosen else "")
            table.add_row(penalty, *cells)
        found.append(table)
    return found
