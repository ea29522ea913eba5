"""Discriminators with further heads: which class a sample has (AC-GAN), and which codes it was made from (InfoGAN).

A discriminator with a head returns a `DiscriminatorOutput` in place of logits; `AuxiliaryClassifier` and
`MutualInformation` are the terms that read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.norm import BatchNorm1d, Statistics
from framework.networks.sizes import check_sizes
from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class DiscriminatorOutput:
    """What a discriminator with further heads returns of N samples; a field is None if it has no such head."""

    logits: Tensor
    """Logits (N,), larger for real samples."""
    classes: Tensor | None = None
    """Logits (N, classes) of the sample's class (AC-GAN, arXiv:1610.09585)."""
    codes: Tensor | None = None
    """Parameters (N, K) of the distribution Q of the codes (InfoGAN, arXiv:1606.03657), as `Recognition` lays them
    out."""
    features: Tensor | None = None
    """What all heads are computed from, (N, F)."""


class Recognition(nn.Module):
    """InfoGAN's Q: the parameters (N, K) of the distribution of codes from features (N, F).

    There are K numbers side by side, code by code in the order in which the term lists them: of a categorical code one
    logit for each class; of another one its means and, where variances are predicted, then as many log variances. One
    hidden layer with batch norm and leaky ReLU lies before them, as in arXiv:1606.03657, appendix C.1.

    Args:
        features: F.
        codes: K.
        width: units of the hidden layer; 0 = none, a linear map.
        slope: of the leaky ReLU below zero.
        statistics: samples that batch norm averages over: `global` (of all processes) or `local` (of each).

    Raises:
        FrameworkError: an argument is out of range; the message names it.
    """

    def __init__(
        self, features: int, codes: int, *, width: int = 128, slope: float = 0.1, statistics: Statistics = "global"
    ) -> None:
        super().__init__()
        check_sizes(classes=0, features=features, codes=codes)
        if width < 0:
            raise FrameworkError(f"width={width} must be at least 0")
        self.slope = slope
        self.hidden = nn.Linear(features, width, bias=False) if width else None
        self.norm = BatchNorm1d(width, statistics=statistics) if width else None
        self.output = nn.Linear(width or features, codes)

    def forward(self, features: Tensor) -> Tensor:
        """Return parameters (N, K) for features (N, F)."""
        if self.hidden is not None and self.norm is not None:
            features = functional.leaky_relu(self.norm(self.hidden(features)), self.slope)
        return self.output(features)


class Heads(nn.Module):
    """The heads of a discriminator beside its logit, linear maps of its features (N, F).

    Args:
        features: F.
        classes: number of classes that are told apart; 0 = no class head.
        codes: numbers of the head of codes, see `Recognition`; 0 = none.
    """

    def __init__(self, features: int, *, classes: int = 0, codes: int = 0) -> None:
        super().__init__()
        self.classes = nn.Linear(features, classes) if classes else None
        self.codes = Recognition(features, codes, width=0) if codes else None

    @property
    def any(self) -> bool:
        """Whether there is any head."""
        return self.classes is not None or self.codes is not None

    def forward(self, features: Tensor, logits: Tensor) -> DiscriminatorOutput:
        """Return logits (N,) with what the heads make of features (N, F)."""
        return DiscriminatorOutput(
            logits=logits,
            classes=None if self.classes is None else self.classes(features),
            codes=None if self.codes is None else self.codes(features),
            features=features,
        )


def check_heads(*, classes: int, class_head: bool, codes: int) -> None:
    """Refuse a class head without classes, and a negative number of codes.

    Raises:
        FrameworkError: names the option, and what to do.
    """
    if class_head and not classes:
        raise FrameworkError("class_head=True needs classes: give the data a number of them (`data.classes`)")
    if codes < 0:
        raise FrameworkError(f"codes={codes} must be 0 or the number of outputs of the head of codes")
