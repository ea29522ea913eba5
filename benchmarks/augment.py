"""What ADA costs: its share of a discriminator's turn, in one run.

StyleGAN2's discriminator takes turns (real and generated images, logistic loss, backward) with and without
augmentation, and R1 turns (second derivatives) likewise. Rounds alternate, and the share is taken inside each round,
because machines drift. The generator and the optimiser are left out, so shares of a whole training step are smaller.

    python -m benchmarks.augment [--resolution 64] [--batch-size 8] [--channel-base 4096] [--preset bgc]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import tyro
from torch import Tensor
from torch.nn import functional

from framework.augment.ada import Ada, Preset
from framework.games.microbatch import ImageDraws
from framework.networks.stylegan2 import Discriminator
from framework.objectives.penalties import r1
from framework.runtime.seeding import Draws


def main(
    *,
    resolution: int = 64,
    batch_size: int = 8,
    channel_base: int = 4_096,
    preset: Preset = "bgc",
    strength: float = 0.5,
    rounds: int = 5,
    device: str = "cpu",
) -> None:
    """Print the time of a turn and the share of it that ADA takes.

    Args:
        resolution: Side of the images.
        batch_size: Real images per turn, and as many generated ones.
        channel_base: Width of the discriminator. The paper has 16384, at which ADA's share is smaller still.
        preset: Transforms.
        strength: p.
        rounds: Alternating rounds.
        device: cpu or cuda.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Discriminator(resolution=resolution, channel_base=channel_base).to(device)
    real, fake = torch.randn(2, batch_size, 3, resolution, resolution, device=device).unbind()
    ada = Ada(preset=preset)

    def discriminate(what: str, p: float) -> Callable[[Tensor, Tensor | None], Tensor]:
        draw = ImageDraws(
            draws=Draws(seed=0, images_seen=0),
            purpose=what,
            batch_size=batch_size,
            rows=slice(0, batch_size),
            device=real.device,
            dtype=real.dtype,
        )
        return lambda images, labels: network(ada(images, strength=p, draw=draw))

    def main_turn(p: float) -> Tensor:
        on_real, on_fake = discriminate("real", p)(real, None), discriminate("fake", p)(fake, None)
        return functional.softplus(-on_real).mean() + functional.softplus(on_fake).mean()

    def r1_turn(p: float) -> Tensor:
        return r1(discriminate("real", p), real)

    for name, turn in {"turn": main_turn, "R1 turn": r1_turn}.items():
        seconds(turn, strength), seconds(turn, 0.0)
        rows = [(seconds(turn, strength), seconds(turn, 0.0)) for _ in range(rounds)]
        shares = [1 - without / augmented for augmented, without in rows]
        print(
            f"{name}: {1000 * statistics.median(a for a, _ in rows):.0f} ms with ADA {preset} at p = {strength}, "
            f"{1000 * statistics.median(w for _, w in rows):.0f} ms without; "
            f"ADA's share: median {statistics.median(shares):.1%} [{min(shares):.1%} - {max(shares):.1%}]"
        )


def seconds(turn: Callable[[float], Tensor], strength: float) -> float:
    """CPU seconds of this process for a turn on the CPU, where other programs do not count; else wall-clock time."""
    clock = time.perf_counter if torch.cuda.is_initialized() else time.process_time
    synchronise = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    synchronise()
    begun = clock()
    turn(strength).backward()
    synchronise()
    return clock() - begun


if __name__ == "__main__":
    tyro.cli(main)
