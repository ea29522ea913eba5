"""The plan of an evaluation, and all that is known before an image is looked at: protocols and obstacles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from framework.evaluation.extract import too_many_classes
from framework.evaluation.images import ImageSet
from framework.evaluation.metrics import PERCEPTUAL, Metric, Settings
from framework.evaluation.models import EvaluationModels
from framework.evaluation.protocol import Protocol

# Which images they are, as opposed to how they were made: of the judged set this is the subject, not the protocol.
_IDENTITY = ("content_sha256", "fingerprint", "name", "split", "order")


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """The images, their reference and the means of comparison; `framework.evaluation.evaluate` explains the fields."""

    images: ImageSet
    reference: ImageSet | None
    metrics: Sequence[Metric]
    models: EvaluationModels
    settings: Settings
    reference_count: int | None = None

    @property
    def real_count(self) -> int:
        """Number of real images in use."""
        available = self.reference.count if self.reference else 0
        return min(available, self.reference_count or available)

    @property
    def classes(self) -> int:
        """Number of classes of both sets; 0 unless they have the same number."""
        return self.images.classes if self.reference and self.images.classes == self.reference.classes else 0

    @property
    def other_extractor(self) -> str | None:
        """Short name of the extractor where it is not FID's; else None."""
        extractor = self.models.extractor
        return extractor.identity.name.rpartition("/")[2] if extractor and not extractor.is_inception else None

    @property
    def subject(self) -> dict[str, Any]:
        """The facts that identify the judged images."""
        return {name: value for name, value in self.images.describe().items() if name in _IDENTITY}

    def count(self, metric: Metric) -> int:
        """Return the number of images of the judged set that a metric looks at."""
        available = self.images.count
        return metric.count or (min(metric.definition.default, available) if self.images.endless else available)

    def names(self, metric: Metric) -> dict[str, str]:
        """Return the names of a metric's records by output."""
        return metric.names(self.other_extractor)

    def keys(self, metric: Metric) -> list[str]:
        """Return the keys that a metric's records will have, such as `fid50k-1a2b3c4d`."""
        return [f"{name}-{self.protocol(metric, output).hash}" for output, name in self.names(metric).items()]

    def obstacle(self, metric: Metric) -> str | None:
        """Return the reason why a metric cannot be computed; None when no reason is known."""
        model = "lpips" if metric.kind in PERCEPTUAL else "extractor"
        if getattr(self.models, model) is None:
            return self.models.missing.get(model, f"the models were opened without {model}, for other metrics")
        if metric.definition.real and self.reference is None:
            return "it compares with real images, and none were given"
        if not self.images.endless and self.count(metric) > self.images.count:
            return f"it was asked for {self.count(metric):,} images, there are {self.images.count:,}"
        if metric.kind.endswith("_by_class"):
            assert self.models.extractor is not None
            classes = self.classes
            return too_many_classes(classes, self.models.extractor.dim) if classes else "the images have no classes"
        return None

    def protocol(self, metric: Metric, output: str) -> Protocol:
        """Return the protocol of one output of a metric: everything that its value depends on."""
        kind, settings = metric.definition, asdict(self.settings)
        of_pairs = metric.kind in PERCEPTUAL
        extractor: dict[str, Any] = {} if of_pairs else {"name": self.models.extractor_name}
        if self.models.extractor and not of_pairs:
            extractor = asdict(self.models.extractor.identity)
        real: dict[str, Any] = {}
        if self.reference is not None and kind.real:
            real = {**self.reference.describe(), "count": self.real_count}
        made = {name: value for name, value in self.images.describe().items() if name not in _IDENTITY}
        return Protocol(
            metric=output,
            definition=kind.definition,
            extractor=extractor,
            reference=real,
            generated={**made, "count": self.count(metric)},
            options={name: settings[name] for name in kind.options},
            perceptual=self._lpips() if of_pairs else {},
        )

    def _lpips(self) -> Mapping[str, Any]:
        lpips = self.models.lpips
        known = (
            {} if lpips is None else {"weights_sha256": lpips.weights_sha256, "tensors_sha256": lpips.tensors_sha256}
        )
        return {"name": "lpips-vgg16", **known}
