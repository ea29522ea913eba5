"""The plan of an evaluation, and all that is known before a sample is looked at: protocols and obstacles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from framework.evaluation.images import SEVERAL_SIZES, SampleSet
from framework.evaluation.metrics.base import Metric, Settings
from framework.evaluation.metrics.sample import SampleMetric
from framework.evaluation.models import EvaluationModels
from framework.evaluation.protocol import Protocol

# Which images they are, as opposed to how they were made: of the judged set this is the subject, not the protocol.
_IDENTITY = ("content_sha256", "fingerprint", "name", "split", "order")


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """The samples, their reference and the means of comparison; `framework.evaluation.evaluate` explains the fields."""

    samples: SampleSet
    reference: SampleSet | None
    metrics: Sequence[Metric]
    models: EvaluationModels
    settings: Settings
    reference_count: int | None = None

    @property
    def real_count(self) -> int:
        """Number of real samples in use."""
        available = self.reference.count if self.reference else 0
        return min(available, self.reference_count or available)

    @property
    def classes(self) -> int:
        """Number of classes of both sets; 0 unless they have the same number."""
        return self.samples.classes if self.reference and self.samples.classes == self.reference.classes else 0

    @property
    def other_extractor(self) -> str | None:
        """Short name of the extractor where it is not FID's; else None."""
        extractor = self.models.extractor
        return extractor.identity.name.rpartition("/")[2] if extractor and not extractor.is_inception else None

    @property
    def subject(self) -> dict[str, Any]:
        """The facts that identify the judged samples."""
        return {name: value for name, value in self.samples.describe().items() if name in _IDENTITY}

    def count(self, metric: Metric) -> int:
        """Return the number of samples of the judged set that a metric looks at."""
        available = self.samples.count
        return metric.count or (min(metric.default_count, available) if self.samples.endless else available)

    def names(self, metric: Metric) -> dict[str, str]:
        """Return the names of a metric's records by output."""
        return metric.names(self.other_extractor)

    def keys(self, metric: Metric) -> list[str]:
        """Return the keys that a metric's records will have, such as `fid50k-1a2b3c4d`."""
        return [f"{name}-{self.protocol(metric, output).hash}" for output, name in self.names(metric).items()]

    def obstacle(self, metric: Metric) -> str | None:
        """Return the reason why a metric cannot be computed; None when no reason is known."""
        model, extractor = metric.model, self.models.extractor
        if model is not None and self.samples.picture is None:
            return "it judges pictures, and these samples are none"
        if model is not None and getattr(self.models, model) is None:
            return self.models.missing.get(model, f"the models were opened without {model}, for other metrics")
        if metric.compares_with_real and self.reference is None:
            return "it compares with real images, and none were given"
        if not self.samples.endless and self.count(metric) > self.samples.count:
            return f"it was asked for {self.count(metric):,} images, there are {self.samples.count:,}"
        if isinstance(metric, SampleMetric) and metric.compares_with_real:
            return self._not_beside_real(metric)
        return metric.obstacle(classes=self.classes, num_features=extractor.dim if extractor else 0)

    def _not_beside_real(self, metric: Metric) -> str | None:
        """Return the reason why judged samples cannot be put beside real ones of the same positions."""
        assert self.reference is not None
        if self.count(metric) > self.real_count:
            return f"it compares {self.count(metric):,} samples one by one, and there are {self.real_count:,} real ones"
        if self.reference.describe().get("resolution") == SEVERAL_SIZES:
            return "it compares samples one by one, and the real images have several sizes: bring them to one first"
        return None

    def protocol(self, metric: Metric, output: str) -> Protocol:
        """Return the protocol of one output of a metric: everything that its value depends on."""
        real: dict[str, Any] = {}
        if self.reference is not None and metric.compares_with_real:
            real = {**self.reference.describe(), "count": self.real_count}
        made = {name: value for name, value in self.samples.describe().items() if name not in _IDENTITY}
        types: dict[str, Any] = {"dtype": "float64 sums"} if isinstance(metric, SampleMetric) else {}
        return Protocol(
            metric=output,
            definition=metric.definition,
            extractor=self._extractor() if metric.model == "extractor" else {},
            reference=real,
            generated={**made, "count": self.count(metric)},
            options=metric.options(self.settings),
            perceptual=self._lpips() if metric.model == "lpips" else {},
            **types,
        )

    def _extractor(self) -> dict[str, Any]:
        extractor = self.models.extractor
        return {"name": self.models.extractor_name} if extractor is None else asdict(extractor.identity)

    def _lpips(self) -> Mapping[str, Any]:
        lpips = self.models.lpips
        known = (
            {} if lpips is None else {"weights_sha256": lpips.weights_sha256, "tensors_sha256": lpips.tensors_sha256}
        )
        return {"name": "lpips-vgg16", **known}
