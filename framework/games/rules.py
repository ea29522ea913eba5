"""The rules of the alternating game, as a recipe writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from framework.augment import Augmentation
from framework.objectives.adversarial import AdversarialLoss
from framework.objectives.penalties import Penalty
from framework.recipe.checks import check_fields
from framework.recipe.schedules import Ramp, values_of
from framework.tracking.records import check_name
from framework.utils.aliases import first_class_name
from framework.utils.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Alternating:
    """The rules of an alternating game: how often each player takes a turn, and what is minimised in it.

    Raises:
        RecipeError: a field that cannot work; the message names it.
    """

    loss: AdversarialLoss
    critic_steps: int = 1
    """The number of discriminator turns per generator turn (BigGAN: 2, WGAN: 5)."""
    discriminator_terms: tuple[Penalty, ...] = ()
    generator_terms: tuple[Penalty, ...] = ()
    lazy_steps: bool = False
    """Penalties with `every` above 1 get an optimiser step of their own after the turn's, as StyleGAN2 does
    (arXiv:1912.04958, appendix B; see `Adam.lazy`). Otherwise they join the loss of the turns on which they are due."""
    augment: Augmentation | None = None
    """The augmentation of all images that the discriminator sees, in both turns and in its penalties."""
    blur: Ramp | None = None
    """The standard deviation in pixels of a Gaussian blur before the augmentation, which keeps a discriminator from
    fine detail early on (StyleGAN3, arXiv:2106.12423, appendix F.2)."""
    fake_labels: Literal["uniform", "real"] = "uniform"
    """Whether the classes of generated images are drawn uniformly, or are those of the real batch."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.critic_steps < 1:
            raise RecipeError(f"game.critic_steps={self.critic_steps} must be at least 1")
        if self.blur is not None and min(values_of(self.blur)) < 0:
            raise RecipeError(f"game.blur={self.blur} must not be negative: it is a standard deviation in pixels")
        for term in (*self.discriminator_terms, *self.generator_terms):
            check_name(penalty_score(term))
        for side, terms in (("discriminator", self.discriminator_terms), ("generator", self.generator_terms)):
            for term in terms:
                if side not in term.players:
                    raise RecipeError(
                        f"game.{side}_terms: {type(term).__name__} is a penalty of the {' or '.join(term.players)}"
                    )

    def images_per_step(self, batch_size: int) -> int:
        """Return the real images of one step: each discriminator turn consumes one global batch of them."""
        return self.critic_steps * batch_size


def penalty_score(penalty: Penalty) -> str:
    """Return the name under which a penalty is scored; a renamed class keeps it, for the sake of curves begun."""
    return f"penalty/{first_class_name(type(penalty).__name__)}"
