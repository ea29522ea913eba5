"""The table of sentinels: their signals, their thresholds, what these mean and what usually helps.

Thresholds are wide on purpose: a sentinel that warns without cause is switched off. The source of each stands beside
it; the runs they were compared with are in `benchmarks/results`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from framework.utils.errors import FrameworkError


class Health(IntEnum):
    """Health of a signal, or of the run, which has that of its worst signal."""

    ok = 0
    warn = 1
    failing = 2


@dataclass(frozen=True, kw_only=True)
class Sentinel:
    """One signal and its two thresholds. With `failing < warn`, small values are the bad ones.

    Raises:
        FrameworkError: equal thresholds, or a number of ticks or steps or a share out of range.
    """

    signal: str
    warn: float
    failing: float
    reason: str
    """Sentence that says what a bad value means, with `{value}` in it."""
    remedy: str
    """Advice that usually helps."""
    ticks: int = 3
    """Observations in a row beyond a threshold before the health becomes worse, and as many within before it heals."""
    after_steps: int = 0
    """Number of steps before the sentinel begins to judge."""
    after_share: float = 0.0
    """Share of the run before the sentinel begins to judge, where that is longer than `after_steps`."""

    def __post_init__(self) -> None:
        if self.warn == self.failing or self.ticks < 1 or self.after_steps < 0 or not 0.0 <= self.after_share < 1.0:
            raise FrameworkError(
                f"sentinel {self.signal}: thresholds must differ, ticks >= 1, after_steps >= 0, 0 <= after_share < 1"
            )

    def level(self, value: float) -> Health:
        """Return the health that a single value speaks for; NaN is the worst."""
        if math.isnan(value):
            return Health.failing
        if self.failing > self.warn:
            return Health(int(value >= self.warn) + int(value >= self.failing))
        return Health(int(value <= self.warn) + int(value <= self.failing))


SENTINELS = (
    # ADA aims at 0.6 (arXiv:2006.06676, section 3); without augmentation it passes 0.9 when the data is memorised.
    Sentinel(
        signal="sign_real",
        warn=0.9,
        failing=0.97,
        reason="the discriminator is right about real images {value:.0%} more often than wrong: nothing is left to win",
        remedy="augment (Ada or DiffAugment), raise the R1 weight, lower its learning rate, or use more data",
    ),
    # The adversarial loss between its lowest value and that of an undecided discriminator; 0 means that nothing is left
    # to win, and with saturating or hinge losses nothing to learn from (arXiv:1701.04862, theorem 2.4).
    Sentinel(
        signal="discriminator_loss_share",
        warn=0.1,
        failing=0.02,
        reason="the discriminator's loss is {value:.1%} of an undecided one's: it wins every time",
        remedy="lower the discriminator's learning rate or its critic_steps, or regularise it (R1, spectral norm)",
    ),
    # The minimax loss, arXiv:1406.2661, section 3: where D wins, nothing comes through it (arXiv:1701.04862, theorem
    # 2.4). Against the generator's gradients at the start, and only where the discriminator wins.
    Sentinel(
        signal="generator_gradient",
        warn=0.05,
        failing=0.005,
        ticks=5,
        reason="the generator's gradient is {value:.2%} of what it was at the start, and the discriminator wins: it "
        "has vanished",
        remedy="use the non-saturating loss, or a Wasserstein loss with a gradient penalty; add noise to the "
        "discriminator's input; lower its learning rate",
    ),
    # Samples of fixed latents, from look to look; 1 is the distance of two real samples. A young generator's move, too.
    Sentinel(
        signal="sample_motion",
        warn=0.5,
        failing=0.8,
        ticks=5,
        after_steps=600,
        after_share=0.3,
        reason="samples of the same latents have moved by {value:.2f} of the data's spread since the last look: the "
        "players go round in circles",
        remedy="lower the learning rates or use two of them, add a gradient penalty (R1), or look ahead (Unrolled)",
    ),
    # An undecided discriminator is what a perfect generator leaves behind; where samples are elsewhere, it is too weak.
    Sentinel(
        signal="weak_discriminator",
        warn=0.15,
        failing=0.3,
        ticks=5,
        after_steps=600,
        after_share=0.1,
        reason="the discriminator is undecided, although the samples' mean is {value:.2f} of the data's spread away "
        "from the real one: it is too weak",
        remedy="raise the discriminator's learning rate, critic_steps or width, or regularise it less",
    ),
    # Against the median of the first ticks: for losses without a natural scale.
    Sentinel(
        signal="logit_gap_growth",
        warn=20.0,
        failing=100.0,
        reason="the gap between logits of real and fake images is {value:.0f} times that of the start",
        remedy="add or strengthen a gradient penalty or drift term; lower the discriminator's learning rate",
    ),
    # Orders of magnitude between the players' gradient norms.
    Sentinel(
        signal="gradient_imbalance",
        warn=3.0,
        failing=4.5,
        reason="the players' gradient norms differ by a factor of 10^{value:.1f}: one of them has stopped learning",
        remedy="balance the learning rates; look at which grad_norm/* left its usual range, and when",
    ),
    # BigGAN's collapse begins with an explosion of the generator's first singular values (arXiv:1809.11096, 4.1).
    Sentinel(
        signal="singular_value_growth",
        warn=10.0,
        failing=50.0,
        reason="the largest singular value of a normalised layer has grown {value:.0f}-fold: spectral explosion",
        remedy="go back to an earlier checkpoint with a lower learning rate; add orthogonal regularisation or R1",
    ),
    # Spread of averaged samples relative to real images of the same class; 1 is as diverse as the data. Healthy young
    # generators dip before they learn variety: the quick start to 0.12 (its worst class to 0.03) around step 300; after
    # 600 steps, 5 seeds stay above 0.73 (0.44). A collapsed generator comes to 0.1 (0).
    Sentinel(
        signal="diversity",
        warn=0.5,
        failing=0.25,
        ticks=2,
        after_steps=600,
        after_share=0.02,
        reason="averaged samples are {value:.0%} as diverse as real images: mode collapse",
        remedy="go back to an earlier checkpoint; add minibatch stddev, R1 or a lower generator learning rate",
    ),
    Sentinel(
        signal="diversity_of_worst_class",
        warn=0.3,
        failing=0.1,
        ticks=2,
        after_steps=600,
        after_share=0.02,
        reason="one class has {value:.0%} of its real diversity: it has collapsed",
        remedy="look at its column in the sample grids; balance the classes, or see diversity",
    ),
    # Above 0.8 augmentations leak into the images (arXiv:2006.06676, section 2.2 and figure 4).
    Sentinel(
        signal="augment_p",
        warn=0.8,
        failing=0.98,
        reason="ADA augments with p = {value:.2f} and still cannot hold the discriminator back: overfitting has won",
        remedy="this data set is too small for the discriminator: shrink it, raise R1, or transfer (--init-from)",
    ),
    Sentinel(
        signal="skipped_share",
        warn=0.02,
        failing=0.5,
        ticks=1,
        reason="{value:.0%} of the steps since the last tick had a non-finite loss or gradient",
        remedy="lower the learning rate, use --precision fp32 or bf16, and look at where grad_norm/* began to grow",
    ),
    # Against the best value of the same protocol.
    Sentinel(
        signal="distance_growth",
        warn=1.25,
        failing=2.0,
        ticks=2,
        reason="the distance to the real images is {value:.2f} times its best",
        remedy="the best checkpoint is behind: stop, or lower the learning rate",
    ),
)
"""The sentinels of every run. Those whose signal a game does not have stay silent."""
