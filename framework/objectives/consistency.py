"""Balanced consistency regularisation of a discriminator (Zhao et al., arXiv:2002.04724, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from framework.augment import Augmentation
from framework.augment.diffaugment import DiffAugment
from framework.networks.blocks.precision import at_least_fp32
from framework.objectives.penalties import Penalty
from framework.objectives.terms import TermInputs
from framework.recipe.checks import check_fields
from framework.recipe.schedules import Ramp
from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class Consistency(Penalty):
    """The penalty `weight * (E[(D(T(x)) - D(x))^2] + E[(D(T(G(z))) - D(G(z)))^2])`, where T is an augmentation (bCR).

    With `fake=False` it is that of CR-GAN (arXiv:1910.12027), whose augmentations the generator can learn. Samples are
    judged twice more, with equal random numbers of the discriminator and of the game's augmentation, so that T alone
    makes the difference. The paper's T shifts images by a few pixels and mirrors them; here it shifts them by up to an
    eighth of the side, and mirroring is left to the data.

    Raises:
        FrameworkError: neither real nor generated samples are regularised.
    """

    weight: float | Ramp = 10.0
    augmentation: Augmentation = field(default_factory=lambda: DiffAugment(policies=("translation",)))
    """T; its strength is 1."""
    real: bool = True
    """Whether real samples are regularised."""
    fake: bool = True
    """Whether generated samples are regularised."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self)
        if not (self.real or self.fake):
            raise FrameworkError("Consistency: real=False and fake=False leave nothing to regularise")

    def value(self, inputs: TermInputs) -> Tensor:
        """Return the mean squared differences of logits, a scalar.

        Raises:
            FrameworkError: the turn has no real or no generated images.
        """
        total = None
        for which, used in {"real": self.real, "fake": self.fake}.items():
            if used:
                difference = self._difference(inputs, which)
                total = difference if total is None else total + difference
        assert total is not None
        return total

    def _difference(self, inputs: TermInputs, which: str) -> Tensor:
        """Return the mean squared difference between logits of images (N, C, H, W) and of their augmented copies."""
        images = self._given(getattr(inputs, which), f"{'real' if which == 'real' else 'generated'} images").detach()
        labels = inputs.labels if which == "real" else inputs.fake_labels
        moved = self.augmentation(images, strength=1.0, draw=inputs.draw)
        differences = inputs.discriminate(moved, labels) - inputs.discriminate(images, labels)
        return at_least_fp32(differences).square().mean()
