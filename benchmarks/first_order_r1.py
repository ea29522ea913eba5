"""How far the finite-difference R1 is from the exact one: its value, and its gradient in the parameters.

    python -m benchmarks.first_order_r1            # a minute or two on one core
    python -m benchmarks.first_order_r1 --json

A StyleGAN2 discriminator at 32 px, 8 images, fp32, as it starts and after some steps against noise, which make its
input gradient uneven; and a smaller one without kinks (SiLU), trained likewise. Per sigma and number of draws per
image, over `REPEATS` independent sets of noise: mean and standard deviation of the value over the exact one; cosine and
length of the estimated gradient against the exact one; and those of the mean over all sets, where noise has averaged
out as far as it does and bias remains.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.report import command_line, show
from framework.networks import stylegan2
from framework.objectives.first_order import first_order_r1
from framework.objectives.penalties import r1
from framework.runtime.seeding import Draws, seed_torch

RESOLUTION, NUM_IMAGES, REPEATS, STEPS = 32, 8, 24, 30
SIGMAS = (0.3, 0.1, 0.03, 0.01, 0.001, 0.0001)
NUM_DRAWS = (1, 4, 16)


def discriminator() -> nn.Module:
    """Without minibatch statistics, whose coupling of images the two penalties see differently."""
    seed_torch("first order R1", 0)
    return stylegan2.Discriminator(
        resolution=RESOLUTION, channels=3, classes=0, channel_base=2048, channel_max=64, stddev_features=0
    )


def smooth() -> nn.Module:
    """Three convolutions and a linear layer, infinitely differentiable."""
    seed_torch("first order R1, smooth", 0)

    class Smooth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pairs = pairwise((3, 32, 64, 64))
            layers = [layer for a, b in pairs for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.SiLU())]
            self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (RESOLUTION // 8) ** 2, 1))

        def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
            logits: Tensor = self.layers(images)
            return logits[:, 0]

    return Smooth()


def real_images() -> Tensor:
    """(8, 3, 32, 32) in [-1, 1]: smooth shapes with a little noise."""
    draws = Draws(seed=3, images_seen=0)
    coarse = draws.normal("shapes", NUM_IMAGES, 3, 4, 4)
    smooth = functional.interpolate(coarse, size=RESOLUTION, mode="bicubic")
    return torch.tanh(smooth + 0.1 * draws.normal("noise", NUM_IMAGES, 3, RESOLUTION, RESOLUTION))


def trained(network: nn.Module, real: Tensor) -> nn.Module:
    """After `STEPS` steps of telling the images from noise."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.0, 0.99))
    for index in range(STEPS):
        fake = Draws(seed=4, images_seen=index).normal("fake", *real.shape).clamp(-1, 1)
        loss = functional.softplus(-network(real, None)).mean() + functional.softplus(network(fake, None)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def gradient(value: Tensor, network: nn.Module) -> Tensor:
    """In all parameters, flat; zero where the value does not depend on one."""
    parameters = list(network.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)]
    )


def compare(network: nn.Module, real: Tensor, *, sigma: float, num_draws: int) -> dict[str, float]:
    """Value and gradient of the estimate against the exact penalty."""
    exact = r1(network, real)
    wanted = gradient(exact, network)
    values, cosines, lengths, total = [], [], [], torch.zeros_like(wanted)
    for repeat in range(REPEATS):
        shape = (num_draws, *real.shape)
        noise = Draws(seed=5, images_seen=repeat).normal(f"{sigma}/{num_draws}", *shape)
        value = first_order_r1(network, real, noise=noise, sigma=sigma)
        found = gradient(value, network)
        values.append(value.detach() / exact.detach())
        cosines.append(functional.cosine_similarity(found, wanted, dim=0))
        lengths.append(found.norm() / wanted.norm())
        total += found / REPEATS
    ratio = torch.stack(values)
    return {
        "value_mean": ratio.mean().item(),
        "value_std": ratio.std().item(),
        "cosine": torch.stack(cosines).mean().item(),
        "length": torch.stack(lengths).mean().item(),
        "cosine_of_mean": functional.cosine_similarity(total, wanted, dim=0).item(),
        "length_of_mean": (total.norm() / wanted.norm()).item(),
    }


def rows() -> list[dict[str, Any]]:
    """One row per network, sigma and number of draws."""
    report: list[dict[str, Any]] = []
    real = real_images()
    networks = {
        "stylegan2, fresh": discriminator(),
        "stylegan2, trained": trained(discriminator(), real),
        "smooth, trained": trained(smooth(), real),
    }
    for name, network in networks.items():
        for num_draws in NUM_DRAWS:
            for sigma in SIGMAS if num_draws == 1 else (0.01,):
                found = compare(network, real, sigma=sigma, num_draws=num_draws)
                report.append({"network": name, "sigma": sigma, "num_draws": num_draws} | found)
    return report


def main() -> None:
    """Print the table."""
    arguments = command_line(__doc__).parse_args()
    report = rows()
    titles = (
        "network",
        "sigma",
        "draws",
        "value / exact",
        "std",
        "cosine",
        "length",
        "cosine of mean",
        "length of mean",
    )
    table = Table(*titles, title=f"{NUM_IMAGES} images, {REPEATS} sets of noise")
    for row in report:
        names = ("value_mean", "value_std", "cosine", "length", "cosine_of_mean", "length_of_mean")
        table.add_row(row["network"], str(row["sigma"]), str(row["num_draws"]), *(f"{row[name]:.3f}" for name in names))
    show(report, table, as_json=arguments.json, width=120)


if __name__ == "__main__":
    main()
