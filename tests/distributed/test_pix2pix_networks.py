"""pix2pix's networks over three processes: the images, logits, gradients and running statistics of the whole batch."""

import pytest
import torch
from torch import Tensor, nn

from framework.networks import pix2pix
from framework.networks.blocks.norm import BatchNorm2d
from tests.helpers.draws import Seeded
from tests.helpers.spawn import run_ranks

SHARES = (slice(0, 1), slice(1, 4), slice(4, 6))
"""Rows of the global batch on each process, unequal and one of them alone."""

TOLERANCE = 1e-10
"""The rounding of float64 sums in another order, through a dozen layers."""


def players() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    generator = pix2pix.Generator(num_downs=4, width=3, dropout_at=(2, 3)).double()
    discriminator = pix2pix.Discriminator(num_layers=1, width=3).double()
    for network in (generator, discriminator):
        for parameter in network.parameters():
            parameter.data.mul_(5)  # activations of about one
    return generator, discriminator


def step(rows: slice) -> dict[str, Tensor]:
    """What these rows contribute to a step; `sum.*` is to be added over processes, `same.*` is equal on all."""
    generator, discriminator = players()
    torch.manual_seed(1)
    source = (torch.rand(6, 3, 16, 16, dtype=torch.float64) * 2 - 1)[rows]
    images = generator(source, **generator.stochastic(Seeded(batch_size=6, rows=rows)))
    logits = discriminator(images, source)
    (logits.exp().sum() + images.pow(3).sum()).backward()
    found = {"rows.images": images, "rows.logits": logits}
    for side, network in {"g": generator, "d": discriminator}.items():
        found |= {f"sum.{side}.{name}": parameter.grad for name, parameter in network.named_parameters()}
        norms = {name: m for name, m in network.named_modules() if isinstance(m, BatchNorm2d)}
        found |= {f"same.{side}.{name}.mean": norm.running_mean for name, norm in norms.items()}
        found |= {f"same.{side}.{name}.var": norm.running_var for name, norm in norms.items()}
    return {name: value.detach().contiguous() for name, value in found.items()}


def of_process() -> dict[str, Tensor]:
    return step(SHARES[torch.distributed.get_rank()])


@pytest.mark.distributed
def test_three_processes_compute_what_one_does() -> None:
    alone, parts = step(slice(None)), run_ranks(of_process, len(SHARES))
    assert {name.partition(".")[0] for name in alone} == {"rows", "sum", "same"}
    for name, expected in alone.items():
        values = [part[name] for part in parts]
        kind = name.partition(".")[0]
        together = [torch.cat(values)] if kind == "rows" else [sum(values)] if kind == "sum" else values
        for value in together:
            scale = expected.abs().max().item()
            assert (value - expected).abs().max().item() <= TOLERANCE * max(scale, 1.0), name
