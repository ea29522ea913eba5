"""A metric is a class: its name, definition, what it needs of the samples, and the arithmetic.

One pass over the samples serves all metrics of an evaluation: each says what it needs (`Needs`), the pass collects that
once (`Extract`), and each computes its values from it. A metric that adds up sums over samples of any kind is a
`SampleMetric`; the others look at features, logits or pairs of pictures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from framework.evaluation.errors import EvaluationError
from framework.evaluation.extract import Extract, Needs
from framework.evaluation.extractors.lpips import Lpips
from framework.evaluation.images import SampleSet
from framework.runtime.session import Session
from framework.tracking.checkpoints import Score


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Constants of the definitions; the defaults are the papers' and torch-fidelity's.

    Attributes:
        kid_subsets: random subsets over which KID is averaged.
        kid_subset_size: images in each; smaller sets are used whole.
        seed: seed of KID's subsets and of the Inception Score's shuffle.
        neighbours: k of improved precision and recall.
        balls: k of density and coverage.
        splits: number of parts over which the Inception Score is averaged.
        held: largest number of images a side whose features are kept, for the metrics that compare images one by one.
        path_epsilon: step of the perceptual path length.

    Raises:
        EvaluationError: a number that is not positive; names its flag.
    """

    kid_subsets: int = 100
    kid_subset_size: int = 1000
    seed: int = 2020
    neighbours: int = 3
    balls: int = 5
    splits: int = 10
    held: int = 50_000
    path_epsilon: float = 1e-4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "seed" and value <= 0:
                raise EvaluationError(f"--{name.replace('_', '-')} {value}: must be positive")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A value, and further facts for its record."""

    value: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MetricInputs:
    """What a metric computes its values from.

    Attributes:
        samples: the judged set.
        judged: what the pass over the judged set has found.
        real: what the pass over the real set has found; empty without one.
        reference: the real set; None without one.
        count: number of judged samples in use.
        real_count: number of real samples in use.
        lpips: the network of LPIPS, on the host; None where no metric needs it.
        settings: constants of the definitions.
        session: the processes that share the work.
        shown_as: title under which rank 0 shows how far a long comparison is; empty shows nothing.
    """

    samples: SampleSet
    judged: Extract
    real: Extract
    count: int
    real_count: int
    lpips: Lpips | None
    settings: Settings
    session: Session
    reference: SampleSet | None = None
    shown_as: str = ""


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """A quantity that is measured of a set of samples.

    Equal metrics are the same metric, so the fields of a subclass must be hashable: numbers, texts and tuples.

    Attributes:
        name: the name by which it is asked for, in small letters: `fid`, `modes_hit`.
        definition: formula and paper, for the protocol. Another definition is another line in plots.
        compares_with_real: whether it needs a real set.
        default_count: number of samples drawn from a generator when no count is given.
        model: the network it computes with, one of `EvaluationModels`; None for none.
        options_from: names of the `Settings` that its values depend on.
    """

    name: ClassVar[str]
    definition: ClassVar[str]
    compares_with_real: ClassVar[bool] = True
    default_count: ClassVar[int] = 50_000
    model: ClassVar[Literal["extractor", "lpips"] | None] = None
    options_from: ClassVar[tuple[str, ...]] = ()

    count: int | None = None
    """Number of samples to judge; None for the default."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its values: by default one, named like the metric."""
        return (self.name,)

    def names(self, extractor: str | None) -> dict[str, str]:
        """Return the name of the record by output: `fid50k`, or `fd_fashion_classifier` under another extractor.

        Args:
            extractor: short name of an extractor that is not FID's; None for Inception, or without an extractor.
        """
        suffix = f"_{extractor}" if extractor is not None and self.model == "extractor" else ""
        return {output: f"{output}{suffix}{self._counted(output, suffix)}" for output in self.outputs}

    def _counted(self, output: str, suffix: str) -> str:
        """Return the count as it ends a record's name, apart from digits and from an extractor's name."""
        if self.count is None:
            return ""
        short = f"{self.count // 1000}k" if self.count % 1000 == 0 else str(self.count)
        return f"_{short}" if suffix or output[-1].isdigit() else short

    def lower_is_better(self, output: str) -> bool:
        """Return whether less of an output is better."""
        return Score(name=output, value=0.0).lower_is_better

    def options(self, settings: Settings) -> dict[str, Any]:
        """Return the constants that its values depend on, for the protocol."""
        return {name: getattr(settings, name) for name in self.options_from}

    def obstacle(self, *, classes: int, num_features: int) -> str | None:
        """Return the reason why it cannot be computed of such samples; None when no reason is known.

        Args:
            classes: number of classes of both sets; 0 unless they have the same number.
            num_features: number of features of the extractor; 0 without one.
        """
        return None

    def needs(self, *, count: int, settings: Settings) -> Needs:
        """Return what it needs of the first `count` judged samples; by default nothing."""
        return Needs()

    def real_needs(self, *, count: int, settings: Settings) -> Needs:
        """Return what it needs of the first `count` real samples; by default nothing."""
        return Needs()

    @abstractmethod
    def measure(self, inputs: MetricInputs) -> dict[str, Measured]:
        """Return the values by output, the same on every rank. A collective.

        Raises:
            MissingError: what it needs of the samples is not there.
        """


class FeatureMetric(Metric):
    """A metric of the features of pictures; its name may depend on the extractor.

    Attributes:
        inception: True: the name belongs to FID's Inception; False: to all other extractors; None: to any.
        counterpart: its name under the other kind of extractor; empty where there is none.
    """

    model = "extractor"
    inception: ClassVar[bool | None] = None
    counterpart: ClassVar[str] = ""

    def real_needs(self, *, count: int, settings: Settings) -> Needs:
        """Ask the real images for what is asked of the judged ones, where both are compared."""
        return self.needs(count=count, settings=settings) if self.compares_with_real else Needs()


class ComparingMetric(FeatureMetric):
    """A metric that compares features one by one, of at most `Settings.held` images a side."""

    def needs(self, *, count: int, settings: Settings) -> Needs:
        """Ask for the features of the judged images."""
        return Needs(held=min(settings.held, count))

    def features(self, inputs: MetricInputs) -> tuple[Tensor, Tensor]:
        """Return the features (N, D) and (M, D) of judged and real images."""
        assert inputs.judged.features is not None
        assert inputs.real.features is not None
        return inputs.judged.features[: inputs.count], inputs.real.features
