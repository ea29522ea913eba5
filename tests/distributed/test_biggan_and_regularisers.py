"""BigGAN's forward, relativistic averages and global regularisers: two processes with uneven parts equal one."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework.networks import biggan, biggan_deep
from framework.networks.blocks.norm import BatchNorm2d
from framework.objectives.lecam import LeCam
from framework.objectives.lipschitz import Dragan, MaxGradientPenalty
from framework.objectives.penalties import Penalty
from framework.objectives.relativistic import RelativisticAverage
from framework.objectives.terms import TermInputs
from tests.helpers.draws import Given
from tests.helpers.spawn import run_ranks

NUM_IMAGES = 6
PARTS = {1: (6,), 2: (4, 2)}
TOLERANCE = 1e-9
"""Of float64 sums in another order, relative to each tensor's maximum, through four batch norms."""


def rows() -> slice:
    """This process's images."""
    parts = PARTS[dist.get_world_size()]
    start = sum(parts[: dist.get_rank()])
    return slice(start, start + parts[dist.get_rank()])


def mine(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(NUM_IMAGES, *shape, generator=generator, dtype=torch.float64)[rows()]


def share() -> float:
    part = rows()
    return (part.stop - part.start) / NUM_IMAGES


def of_generator(network: nn.Module, name: str) -> dict[str, Tensor]:
    """Images by row, gradients to be summed, running statistics that must be the same everywhere."""
    network.double()
    z, labels = mine(network.z_dim, seed=1), (torch.arange(NUM_IMAGES) % 3)[rows()]
    images = network(z, labels)
    (images.exp() * mine(*images.shape[1:], seed=2)).sum().backward()
    norms = [module for module in network.modules() if isinstance(module, BatchNorm2d)]
    results = {f"rows.{name}.images": images}
    results |= {f"sum.{name}.{key}": p.grad for key, p in network.named_parameters() if p.grad is not None}
    results |= {f"same.{name}.mean{index}": norm.running_mean for index, norm in enumerate(norms)}
    return results | {f"same.{name}.var{index}": norm.running_var for index, norm in enumerate(norms)}


def of_averages() -> dict[str, Tensor]:
    results = {}
    for kind in ("logistic", "least_squares", "hinge"):
        loss = RelativisticAverage(kind=kind)
        real, fake = mine(seed=3).requires_grad_(True), mine(seed=4).requires_grad_(True)
        value = share() * (loss.discriminator(real, fake) + loss.generator(fake, real))
        value.backward()
        results |= {f"sum.{kind}": value, f"rows.{kind}.real": real.grad, f"rows.{kind}.fake": fake.grad}
    return results


class Critic(nn.Module):
    """Smooth and tiny."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first, self.second = nn.Conv2d(1, 2, 2), nn.Linear(2, 1)
        self.double()

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.second(torch.tanh(self.first(images)).mean((2, 3)).sin())[:, 0]


def of_penalty(penalty: Penalty) -> dict[str, Tensor]:
    name, network = type(penalty).__name__, Critic()
    real, fake = mine(1, 3, 3, seed=6), mine(1, 3, 3, seed=7)
    alpha, noise = mine(seed=8).sigmoid(), mine(1, 3, 3, seed=9).sigmoid()
    draw = Given({"max_gradient_penalty": alpha, "dragan/alpha": alpha, "dragan/noise": noise})
    memory: dict[str, Tensor] = {}
    for _ in range(2):  # the second use has a memory
        inputs = TermInputs(
            network=network,
            discriminate=network,
            draw=draw,
            memory=memory,
            real=real,
            fake=fake,
            real_logits=network(real),
            fake_logits=network(fake),
        )
        value = share() * penalty(inputs)
    value.backward()
    results = {f"sum.{name}": value} | {f"same.{name}.{key}": kept for key, kept in memory.items()}
    return results | {f"sum.{name}.{key}": p.grad for key, p in network.named_parameters() if p.grad is not None}


def everything() -> dict[str, Tensor]:
    torch.manual_seed(0)
    tiny = {"resolution": 32, "classes": 3, "shared_dim": 4, "attention_at": 16}
    flat = biggan.Generator(width=2, z_dim=8, **tiny)
    deep = biggan_deep.Generator(width=4, z_dim=4, depth=1, **tiny)
    results = of_generator(flat, "biggan") | of_generator(deep, "deep") | of_averages()
    for penalty in (LeCam(), MaxGradientPenalty(), Dragan()):
        results |= of_penalty(penalty)
    return {name: value.detach().clone() for name, value in results.items()}


@pytest.mark.distributed
def test_two_processes_equal_one() -> None:
    (expected,), parts = run_ranks(everything, 1), run_ranks(everything, 2)
    assert {name.split(".")[0] for name in expected} == {"rows", "sum", "same"}
    for name, whole in expected.items():
        if name.startswith("rows."):
            found = [torch.cat([part[name] for part in parts])]
        elif name.startswith("sum."):
            found = [parts[0][name] + parts[1][name]]
        else:
            found = [part[name] for part in parts]
        # The gradient of a bias in front of a batch norm is zero up to rounding: it has no scale of its own.
        group = ".".join(name.split(".")[:2])
        largest = max(value.abs().max() for key, value in expected.items() if f"{key}.".startswith(f"{group}."))
        own = whole.abs().max()
        scale = own if own > 1e-6 * largest else largest
        for value in found:
            deviation = (value - whole).abs().max() / scale
            assert deviation <= TOLERANCE, f"{name}: {deviation:.1e}"
