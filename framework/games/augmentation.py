"""Augment what a game's discriminator sees, and keep the strength of an adaptive augmentation.

Adaptive augmentation is that of Karras et al. (2020, arXiv:2006.06676).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from framework.augment import Augmentation
from framework.augment.blur import gaussian_blur
from framework.games.microbatch import ImageDraws
from framework.networks.draw import stochastic_inputs
from framework.objectives.terms import Discriminate, Memory
from framework.recipe.schedules import Ramp, value_at
from framework.runtime.collectives import sum_over_processes

STRENGTH, SIGNS, COUNT = "augment/p", "augment/signs", "augment/count"


class Augmenter:
    """An augmentation with its memory: the strength p, and the signs of D(real) seen since p was last adjusted.

    A sign is that of `D(real) - t`, where t is the undecided logit. Where the loss has none, because it sees only
    differences of logits, t is halfway between the mean logits of real and of generated images in the same step: like
    the undecided logit of a symmetric loss it is as far from both, and any shift of the logits cancels out.

    Args:
        augmentation: None leaves images as they are.
        memory: the discriminator's memory, the same numbers on every process.
        undecided_logit: of the game's loss, see `framework.objectives.equilibrium`; None where it has none.
        blur: standard deviation in pixels of a Gaussian blur before the augmentation.
        input_noise: standard deviation of normal noise that is added after the augmentation.
    """

    def __init__(
        self,
        augmentation: Augmentation | None,
        memory: Memory,
        *,
        undecided_logit: float | None,
        blur: Ramp | None = None,
        input_noise: float | Ramp = 0.0,
    ) -> None:
        self._augmentation, self._memory, self._blur = augmentation, memory, blur
        self._input_noise = input_noise
        self._undecided_logit = undecided_logit
        self._seen: list[tuple[Tensor, Tensor]] = []
        """The logits (n,) of real and of generated images, for every micro-batch of this step."""

    @property
    def active(self) -> bool:
        """Whether there is an augmentation."""
        return self._augmentation is not None

    @property
    def _adaptive(self) -> bool:
        return self._augmentation is not None and self._augmentation.every is not None

    def strength(self, images_seen: int) -> float:
        """Return the strength p of the augmentation after `images_seen` images; 0 without one."""
        if self._augmentation is None:
            return 0.0
        if STRENGTH in self._memory:
            return float(self._memory[STRENGTH])
        return value_at(self._augmentation.start, images_seen)

    def through(self, network: nn.Module, *, images_seen: int, draw: ImageDraws) -> Callable[[str], Discriminate]:
        """Return the discriminator behind blur, augmentation and noise, as they are after `images_seen` images.

        It takes samples (n, ...), commonly images (n, C, H, W), and labels (n,) alone, and returns what the network
        does: what its forward takes besides is drawn here. `through(...)("real")` has other draws than `("fake")`; all
        calls of one of them share its draws, so that a penalty compares like with like.
        """
        augmentation, strength = self._augmentation, self.strength(images_seen)
        sigma = self._blur.at(images_seen) if self._blur else 0.0
        noise = value_at(self._input_noise, images_seen)
        if augmentation is None and sigma == 0 and noise == 0 and not hasattr(network, "stochastic"):
            return lambda what: network

        def discriminate(what: str) -> Discriminate:
            numbers = draw.under(f"augment/{what}")
            inputs = stochastic_inputs(network, draw.under(f"network/{what}"))

            def augmented(samples: Tensor, labels: Tensor | None) -> Tensor:
                if sigma > 0:
                    samples = gaussian_blur(samples, sigma=sigma)
                if augmentation is not None:
                    samples = augmentation(samples, strength=strength, draw=numbers)
                if noise > 0:
                    drawn = draw.under(f"input_noise/{what}").normal("noise", *samples.shape[1:])
                    samples = samples + noise * drawn.to(samples.dtype)
                logits: Tensor = network(samples, labels, **inputs)
                return logits

            return augmented

        return discriminate

    def observe(self, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Note D(real) and D(fake), (n,) each, of a micro-batch."""
        if self._adaptive:
            self._seen.append((real_logits.detach(), fake_logits.detach()))

    def forget(self) -> None:
        """Drop what was noted, as when a step did not count."""
        self._seen.clear()

    def adjust(self, *, step: int, images: int) -> None:
        """Add up what all processes noted in a step of `images` images, and adjust p when it is due (a collective).

        Args:
            step: number of generator turns since the segment began.
            images: real images per step.
        """
        augmentation = self._augmentation
        if augmentation is None or augmentation.every is None:
            return
        undecided = self._midpoint() if self._undecided_logit is None else self._undecided_logit
        # This step's signs of D(real), over all processes.
        noted = torch.stack([_sum_and_count((real - undecided).sign()) for real, _ in self._seen]).sum(0)
        signs, count = sum_over_processes(noted).cpu().unbind()
        self._seen.clear()
        # They join those since p was last adjusted.
        zero = torch.zeros((), dtype=torch.float64)
        signs, count = self._memory.get(SIGNS, zero) + signs, self._memory.get(COUNT, zero) + count
        if (step + 1) % augmentation.every == 0:
            p = augmentation.adjusted(self.strength(0), sign=float(signs / count), images=images * augmentation.every)
            self._memory[STRENGTH] = torch.tensor(p, dtype=torch.float64)
            signs, count = zero.clone(), zero.clone()
        self._memory[SIGNS], self._memory[COUNT] = signs, count

    def _midpoint(self) -> Tensor:
        """Return the point halfway between the mean logits of real and generated images, a float64 scalar.

        The logits are those of this step on all processes (a collective).
        """
        sides = [
            torch.stack([_sum_and_count(logits) for logits in side]).sum(0) for side in zip(*self._seen, strict=True)
        ]
        sums, counts = sum_over_processes(torch.stack(sides)).unbind(1)
        return (sums / counts).mean()


def _sum_and_count(values: Tensor) -> Tensor:
    return torch.stack([values.double().sum(), values.new_full((), values.numel(), dtype=torch.float64)])
