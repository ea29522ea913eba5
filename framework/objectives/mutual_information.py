"""InfoGAN's bound on the mutual information of codes and samples (Chen et al., arXiv:1606.03657, equations 5 and 6).

`L_I = E[log Q(c | x)] + H(c)`, where the expectation is over codes c and the samples x made from them, H is the entropy
of the codes' distribution, and Q a network that reads the codes off a sample. It is at most `I(c; x)`, and at most H(c)
for a categorical code: ln 10 = 2.3026 nats for ten classes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from framework.networks.blocks.precision import at_least_fp32
from framework.networks.latents import Categorical, Gaussian, Uniform
from framework.objectives.heads import head_of
from framework.objectives.terms import Term, TermInputs, letter_of
from framework.recipe.checks import check_fields
from framework.recipe.schedules import Ramp
from framework.utils.errors import FrameworkError

Code = Categorical | Uniform | Gaussian
"""A code that can be read off samples."""

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True, kw_only=True)
class MutualInformation(Term):
    """The term `-weight * L_I` of the codes, with Q a head of the discriminator; the paper gives it to both players.

    Q is a class for a categorical code. For a uniform or Gaussian one it is a normal distribution: the paper's program
    predicts means alone, `variance="one"`; with `predicted`, log variances follow the means. The head has the numbers
    that `heads.Recognition` describes; `width` says how many these are, which is the option `codes` of a network:

        CODES = (Categorical(10, name="digit"), Uniform(2, name="style"))
        INFORMATION = MutualInformation(codes=CODES)
        Network(infogan.Discriminator, codes=INFORMATION.width)
        Alternating(latents=(Gaussian(62), *CODES), discriminator_terms=(INFORMATION,), generator_terms=(INFORMATION,))

    The bound of each code is logged as `information/<code>/D` and `.../G`, in nats. For uniform codes, the authors'
    program reports another number, with the mean log density of a standard normal in place of the entropy.

    Raises:
        FrameworkError: there are no codes, two have one name, or a name cannot be that of a metric.
    """

    codes: tuple[Code, ...]
    """The codes as they stand in the game's latents, in the order of Q's outputs."""
    weight: float | Ramp = 1.0
    variance: Literal["one", "predicted"] = "one"
    """The variance of Q for uniform and Gaussian codes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self)
        names = [code.name for code in self.codes]
        if not names or len({*names}) < len(names):
            raise FrameworkError(f"{type(self).__name__}: codes={names} must be one or more, each with its own name")
        for name in names:
            if name in ("z", "real", "fake") or not name.isidentifier() or not name.isascii():
                raise FrameworkError(
                    f"{type(self).__name__}: the code {name!r} needs a name of letters, digits and _, other than z, "
                    "real and fake"
                )

    @property
    def width(self) -> int:
        """The number of Q's outputs for all codes."""
        return sum(map(self._outputs, self.codes))

    def metrics(self, value: Tensor, weighted: Tensor, *, player: str) -> dict[str, Tensor]:
        """Return the term of a player as it is, and with its weight; arguments as in `Term`."""
        name = f"term/{self.name}/{letter_of(player)}"
        return {name: value, f"{name}_weighted": weighted / self.every}

    @torch.no_grad()
    def further_metrics(self, inputs: TermInputs) -> dict[str, Tensor]:
        """Return the bound L_I of every code, in nats."""
        letter = letter_of(inputs.player)
        return {f"information/{code.name}/{letter}": bound for code, bound in self._bounds(inputs)}

    def value(self, inputs: TermInputs) -> Tensor:
        """Return minus the bounds of all codes, a scalar.

        Raises:
            FrameworkError: there is no Q, its outputs are not as many as `width`, or the game does not draw a code.
        """
        return -torch.stack([bound for _, bound in self._bounds(inputs)]).sum()

    def parameters_of_codes(self, inputs: TermInputs) -> Tensor:
        """Return Q's outputs (N, width) for the generated samples."""
        advice = (
            f"give the discriminator a head of codes, such as Network(infogan.Discriminator, codes={self.width}), or "
            "use GeneratorMutualInformation, for which the generator has it"
        )
        return head_of(inputs, "fake", "codes", term=self, advice=advice)

    def _outputs(self, code: Code) -> int:
        """Return how many of Q's outputs belong to a code."""
        predicted = self.variance == "predicted" and not isinstance(code, Categorical)
        return code.width * (2 if predicted else 1)

    def _bounds(self, inputs: TermInputs) -> Iterator[tuple[Code, Tensor]]:
        """Yield every code with its bound, a scalar."""
        parameters = at_least_fp32(self.parameters_of_codes(inputs))
        if parameters.shape[1] != self.width:
            raise FrameworkError(
                f"{type(self).__name__}: Q has {parameters.shape[1]} outputs, the codes take {self.width}: build the "
                f"network that has it with codes={self.width}"
            )
        parts = parameters.split([self._outputs(code) for code in self.codes], dim=1)
        for code, part in zip(self.codes, parts, strict=True):
            yield code, self._likelihood(code, part, inputs.tensor(code.name)) + entropy(code)

    def _likelihood(self, code: Code, parameters: Tensor, drawn: Tensor) -> Tensor:
        """Return the mean log-likelihood of a code's draws, (N,) classes or (N, width), a scalar."""
        if isinstance(code, Categorical):
            return -functional.cross_entropy(parameters, drawn)
        mean, log_variance = parameters, torch.zeros_like(parameters)
        if self.variance == "predicted":
            mean, log_variance = parameters.chunk(2, dim=1)
        squares = (drawn.to(mean) - mean).square() * torch.exp(-log_variance)
        return -(_HALF_LOG_2_PI + 0.5 * (log_variance + squares)).sum(1).mean()


@dataclass(frozen=True, kw_only=True)
class GeneratorMutualInformation(MutualInformation):
    """The term `-weight * L_I` of the codes, with Q a part of the generator that reads the discriminator's features.

    So Q is trained by the generator's optimiser, and the discriminator does not learn the codes, as in
    InfoGAN-PyTorch (weight 0.1 and a predicted variance for continuous codes, weight 1 for categorical ones). The
    generator's forward takes `features` (N, F), and then returns Q's outputs; the discriminator returns `features`:

        Network(infogan.Generator, codes=INFORMATION.width), Network(infogan.Discriminator)
    """

    players: ClassVar[tuple[str, ...]] = ("generator",)

    def parameters_of_codes(self, inputs: TermInputs) -> Tensor:
        """Return Q's outputs (N, width) for the generated samples."""
        advice = "use a discriminator that returns its features, such as infogan.Discriminator"
        features = head_of(inputs, "fake", "features", term=self, advice=advice)
        if "features" not in inspect.signature(inputs.network.forward).parameters:
            raise FrameworkError(
                f"{type(self).__name__}: the forward of {type(inputs.network).__name__} takes no `features`, from "
                "which it would return Q's outputs: use a generator that has a Q, such as Network(infogan.Generator, "
                f"codes={self.width})"
            )
        parameters: Tensor = inputs.network(inputs.z, features=features)
        return parameters


def entropy(code: Code) -> float:
    """Return the entropy of a code's distribution in nats, of a continuous one its differential entropy."""
    if isinstance(code, Categorical):
        return math.log(code.classes)
    if isinstance(code, Uniform):
        return code.width * math.log(code.high - code.low)
    return code.width * (_HALF_LOG_2_PI + 0.5)
