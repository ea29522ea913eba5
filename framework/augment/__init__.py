"""Augmentations of what the discriminator sees, real and generated images alike: `Ada` and `DiffAugment`.

A game puts the same one in front of the discriminator everywhere, in both turns and inside penalties:

    discriminate = lambda images, labels: discriminator(augmentation(images, strength=p, draw=draw), labels)

so that the generator is asked for images whose *augmented* distribution is right, which an augmentation that can be
undone in distribution does not distort (arXiv:2006.06676, section 2.2). Everything here is differentiable twice.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from framework.networks.draw import Draw
from framework.recipe.schedules import Schedule


class Augmentation(Protocol):
    """An augmentation, as games see it."""

    @property
    def start(self) -> float | Schedule:
        """The strength to begin with; where it is never adjusted, it may be a function of images seen."""
        ...

    @property
    def every(self) -> int | None:
        """Number of steps from one adjustment of the strength to the next; None: it is never adjusted."""
        ...

    def check(self, *, channels: int, height: int, width: int) -> None:
        """Refuse images that it cannot augment, so that a recipe fails before it trains.

        Raises:
            FrameworkError: a transform cannot handle images of this size; names both.
        """
        ...

    def __call__(self, images: Tensor, *, strength: float, draw: Draw) -> Tensor:
        """Return the augmented images, of the same shape and type.

        Args:
            images: one micro-batch (n, C, H, W) in [-1, 1].
            strength: strength of the augmentation; 0 returns the images themselves.
            draw: source of all random numbers, for these n images.
        """
        ...

    def adjusted(self, strength: float, *, sign: float, images: int) -> float:
        """Return the strength to go on with.

        Args:
            strength: the present strength.
            sign: mean of sign(D(x) - t) over the real images since the last adjustment, with t the undecided logit.
            images: number of those images.
        """
        ...
