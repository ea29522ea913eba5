"""Metrics of your own: sums over samples of any kind, and a value from the sums.

@dataclass(frozen=True, kw_only=True)
class Brightness(SampleMetric):
    name = "brightness"
    definition = "mean of all pixels from 0 to 255"
    samples = ("image",)

    def accumulate(self, samples):
        return {"sum": samples["image"].double().sum(), "count": torch.tensor(samples["image"].numel()).double()}

    def value(self, sums):
        return float(sums["sum"] / sums["count"])
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from framework.evaluation.errors import MissingError
from framework.evaluation.extract import Needs
from framework.evaluation.metrics.base import Measured, Metric, MetricInputs, Settings
from framework.utils.errors import FrameworkError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SampleMetric(Metric):
    """A metric whose values come from sums over samples.

    Its fields are its constants and belong to the protocol; so does `definition`: change that text whenever the
    arithmetic changes, and the values go on under a line of their own. Ranks share the samples in batches that do not
    depend on how many ranks there are, and sums of counts are the same to the bit.

    Attributes:
        samples: names of the tensors that it looks at, for example `("point",)` or `("generated", "target")`. A metric
            of samples without one of them is missing.
        compares_with_real: whether the real set's tensors at the same positions are given, too; their names then begin
            with `real_`.
        higher_is_better: the outputs of which more is better; of all others less is.
    """

    samples: ClassVar[tuple[str, ...]]
    compares_with_real = False
    higher_is_better: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def accumulate(self, samples: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return float64 tensors that add up over batches and ranks, the same names and shapes for every batch.

        Args:
            samples: all tensors (n, ...) of n samples, by name, on the host: pictures uint8 (n, C, H, W), labels int64
                (n,), others float32.
        """

    @abstractmethod
    def value(self, sums: Mapping[str, Tensor]) -> float | Mapping[str, float]:
        """Return the value of the summed tensors, or the value of each output.

        Raises:
            MissingError: these sums have no value.
        """

    def lower_is_better(self, output: str) -> bool:
        """Return whether less of an output is better."""
        return output not in self.higher_is_better

    def options(self, settings: Settings) -> dict[str, Any]:
        """Return the fields, and of which outputs more is better, for the protocol."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "count"}
        return json.loads(json.dumps({**fields, "higher_is_better": self.higher_is_better}, allow_nan=False))

    def needs(self, *, count: int, settings: Settings) -> Needs:
        """Ask for its sums over the judged samples."""
        return Needs(sums={self: count})

    def measure(self, inputs: MetricInputs) -> dict[str, Measured]:
        """Return the values of the sums.

        Raises:
            MissingError: the samples could not be accumulated, or a value is not finite.
        """
        if self in inputs.judged.missing:
            raise MissingError(inputs.judged.missing[self])
        try:
            found = self.value(inputs.judged.sums[self])
        except FrameworkError as error:
            raise MissingError(str(error)) from error
        except Exception as error:  # the metric may be a user's, and training goes on without its value
            log.warning("%s.value fails", self.name, exc_info=True)
            raise MissingError(f"{self.name}.value fails: {type(error).__name__}: {error}") from error
        values = found if isinstance(found, Mapping) else {self.name: found}
        if values.keys() != {*self.outputs}:
            raise MissingError(
                f"{self.name}.value returns {', '.join(values)}, its outputs are {', '.join(self.outputs)}"
            )
        for output, value in values.items():
            if not math.isfinite(value):
                raise MissingError(f"{output} is {float(value)}, which is no finite number")
        return {output: Measured(value=float(values[output])) for output in self.outputs}
