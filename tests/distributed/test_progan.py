"""ProGAN's discriminator on two processes equals the whole batch on one, with R1's second derivatives."""

import pytest
import torch
from torch import Tensor

from framework.networks import progan
from framework.objectives.penalties import r1
from tests.helpers.spawn import run_ranks

WORLD, BATCH = 2, 8
GROUPINGS = ("strided", "contiguous")


def measured(images: Tensor, grouping: str) -> dict[str, Tensor]:
    """Logits and input gradients of these images, and their share of the losses' parameter gradients."""
    torch.manual_seed(0)
    discriminator = progan.Discriminator(
        resolution=8, channel_base=64, channel_max=8, group_size=4, grouping=grouping
    ).double()
    discriminator.grow(resolution=8, alpha=0.3)
    parameters = dict(discriminator.named_parameters())
    x = images.clone().requires_grad_(True)
    logits = discriminator(x)
    (gradient,) = torch.autograd.grad(logits.sum(), x, retain_graph=True)
    first = torch.autograd.grad(logits.exp().sum(), parameters.values(), allow_unused=True)
    second = torch.autograd.grad(r1(discriminator, images) * len(images), parameters.values(), allow_unused=True)
    results = {"logits": logits.detach(), "gradient": gradient}
    for order, gradients in (("first", first), ("second", second)):
        results |= {f"sum.{order}.{n}": g for n, g in zip(parameters, gradients, strict=True) if g is not None}
    return results


def batch() -> Tensor:
    return torch.randn(BATCH, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def of_process() -> dict[str, Tensor]:
    rank, share = torch.distributed.get_rank(), BATCH // WORLD
    own = batch()[rank * share : (rank + 1) * share]
    return {f"{g}/{name}": value for g in GROUPINGS for name, value in measured(own, g).items()}


@pytest.mark.distributed
def test_two_processes_equal_one() -> None:
    ranks = run_ranks(of_process, WORLD)
    for grouping in GROUPINGS:
        for name, expected in measured(batch(), grouping).items():
            parts = [rank[f"{grouping}/{name}"] for rank in ranks]
            ours = sum(parts) if name.startswith("sum.") else torch.cat(parts)
            deviation = (ours - expected).abs().max() / expected.abs().max().clamp(min=1e-300)
            assert deviation <= 1e-10, f"{grouping}: {name} deviates by {deviation:.1e}"
    # Groups mix the processes: strided {0, 2, 4, 6}, {1, 3, 5, 7}; without exchange each would see its own four.
    alone = [measured(part, "strided")["logits"] for part in batch().chunk(WORLD)]
    assert not torch.allclose(torch.cat(alone), measured(batch(), "strided")["logits"])
