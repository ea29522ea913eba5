"""The same game on one process, on two, and with gradient accumulation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from framework import Network
from tests.helpers.play import largest_difference, outputs, small_recipe, smooth_recipe, start, steps
from tests.helpers.spawn import run_ranks


class NoBatchStatistics(nn.Module):
    """A generator in which images do not see each other."""

    def __init__(self, *, resolution: int, channels: int, classes: int, z_dim: int = 8) -> None:
        super().__init__()
        self.z_dim, self.shape = z_dim, (channels, resolution, resolution)
        self.body = nn.Sequential(
            nn.Linear(z_dim + classes, 32), nn.Softplus(), nn.Linear(32, channels * resolution**2)
        )
        self.classes = classes

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        one_hot = nn.functional.one_hot(labels, self.classes).to(z.dtype)
        return torch.tanh(self.body(torch.cat([z, one_hot], 1))).unflatten(1, self.shape)


def play(world: int) -> dict[str, Tensor]:
    """All variants that are compared on this number of processes, in one go: starting processes costs seconds."""
    results: dict[str, Tensor] = {}
    recipe = small_recipe()
    plain = replace(recipe, generator=replace(recipe.generator, network=Network(NoBatchStatistics)))
    smooth = smooth_recipe()
    variants = {  # recipe, micro-batches, type, steps, numbers of processes
        "smooth fp32": (smooth, 1, torch.float32, 10, (1, 2, 3)),
        "smooth fp32 accumulated": (smooth, 2, torch.float32, 10, (1, 2, 3)),
        "sagan fp64": (recipe, 1, torch.float64, 12, (1, 2, 3)),
        "sagan fp64 accumulated": (recipe, 2, torch.float64, 6, (1, 2, 3)),
        "sagan fp32": (recipe, 1, torch.float32, 4, (1, 2, 3)),
        "no batch statistics": (plain, 1, torch.float64, 10, (1,)),
        "no batch statistics accumulated": (plain, 3, torch.float64, 10, (1, 2)),
        "uneven": (replace(recipe, batch_size=11), 2, torch.float64, 5, (1, 2, 3)),
    }
    for name, (variant, micro_batches, dtype, count, worlds) in variants.items():
        if world not in worlds:
            continue
        played = start(variant, micro_batches=micro_batches, dtype=dtype)
        found = steps(played, count=count) | outputs(played)
        results |= {f"{name}/{key}": value for key, value in found.items()}
    return results


@pytest.fixture(scope="module")
def results() -> dict[int, dict[str, Tensor]]:
    return {world: run_ranks(play, world, world)[0] for world in (1, 2, 3)}


@pytest.mark.distributed
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize(
    ("variant", "tolerance"),
    [
        ("smooth fp32", 1e-5),
        ("smooth fp32 accumulated", 1e-5),
        ("sagan fp64", 1e-9),
        ("sagan fp64 accumulated", 1e-9),
        ("uneven", 1e-9),
    ],
)
def test_more_processes_play_the_same_game(results, variant: str, tolerance: float, world: int) -> None:
    for part in ("scores", "outputs"):
        difference = largest_difference(results[1], results[world], f"{variant}/{part}")
        print(f"{variant}: 1 and {world} processes, {part}: {difference:.1e}")
        assert difference <= tolerance


@pytest.mark.distributed
@pytest.mark.parametrize("world", [1, 2])
def test_accumulation_equals_the_large_batch_without_batch_statistics(results, world: int) -> None:
    for part in ("scores", "outputs"):
        prefix = f"no batch statistics/{part}"
        whole = {k: v for k, v in results[1].items() if k.startswith(prefix)}
        cut = {
            k.replace(" accumulated", ""): v
            for k, v in results[world].items()
            if k.startswith(f"no batch statistics accumulated/{part}")
        }
        difference = largest_difference(whole, cut, prefix)
        print(f"accumulation 3, {world} process(es), {part}: {difference:.1e}")
        assert difference <= 1e-6


@pytest.mark.distributed
def test_accumulation_changes_batch_statistics_and_that_is_declared(results) -> None:
    # A batch norm normalises over one global micro-batch: two of six images are not one of twelve.
    whole, cut = (results[1][f"smooth fp32{kind}/outputs/generator"] for kind in ("", " accumulated"))
    assert float((whole - cut).abs().max()) > 1e-4


@pytest.mark.distributed
@pytest.mark.parametrize("world", [2, 3])
def test_the_kinks_of_sagan_amplify_rounding_in_fp32_after_an_equal_first_step(results, world: int) -> None:
    # Same arithmetic (see the float64 row), but ReLU, max-pooling and Adam's sign-like first steps are discontinuous.
    losses = [f"sagan fp32/scores/loss/{letter}" for letter in "DG"]
    steps_apart = torch.stack([(results[1][n] - results[world][n]).abs() for n in losses]).amax(0)
    print(
        f"sagan fp32, 1 and {world} processes, loss difference per step: {[f'{d:.0e}' for d in steps_apart.tolist()]}"
    )
    assert float(steps_apart[0]) <= 1e-5
