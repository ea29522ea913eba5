"""The metrics by name, with what each needs and how it is written on a command line.

    fid50k   kid   pr   dc   fid_by_class   is   ppl10k   lpips        with FID's Inception
    fd       kd    pr   dc   fd_by_class                               with any other extractor: never called FID

A count stands behind the name (`fid50k`, `kid10000`); without one, all images of a folder are judged, 50,000 of a
generator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from framework.evaluation.errors import EvaluationError
from framework.evaluation.extractors.base import Extractor
from framework.utils.ranges import LARGEST
from framework.utils.suggest import nearest


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
class Kind:
    """A family of values that are computed together.

    Attributes:
        definition: formula and paper, for the protocol.
        outputs: names of its values.
        options: names of the settings its values depend on.
        inception: True: the name belongs to FID's Inception; False: to all other extractors; None: to any.
        real: whether it compares with a real set.
        default: number of images drawn from a generator when no count is given.
    """

    definition: str
    outputs: tuple[str, ...]
    options: tuple[str, ...] = ()
    inception: bool | None = None
    real: bool = True
    default: int = 50_000


_FRECHET = "Frechet distance of two Gaussians, covariances over n - 1 (arXiv:1706.08500)"
_KERNEL = "unbiased squared MMD, (x.y/D + 1)^3, mean over subsets (arXiv:1801.01401)"
_KERNEL_OPTIONS = ("kid_subsets", "kid_subset_size", "seed", "held")
KINDS = {
    "fid": Kind(definition=_FRECHET, outputs=("fid",), inception=True),
    "fd": Kind(definition=_FRECHET, outputs=("fd",), inception=False),
    "fid_by_class": Kind(definition=f"mean over classes of the {_FRECHET}", outputs=("fid_by_class",), inception=True),
    "fd_by_class": Kind(definition=f"mean over classes of the {_FRECHET}", outputs=("fd_by_class",), inception=False),
    "kid": Kind(definition=_KERNEL, outputs=("kid",), options=_KERNEL_OPTIONS, inception=True),
    "kd": Kind(definition=_KERNEL, outputs=("kd",), options=_KERNEL_OPTIONS, inception=False),
    "pr": Kind(
        definition="improved precision and recall (arXiv:1904.06991)",
        outputs=("precision", "recall"),
        options=("neighbours", "held"),
    ),
    "dc": Kind(
        definition="density and coverage (arXiv:2002.09797)", outputs=("density", "coverage"), options=("balls", "held")
    ),
    "is": Kind(
        definition="Inception Score, logits without bias, mean over splits (arXiv:1606.03498)",
        outputs=("is",),
        options=("splits", "seed", "held"),
        inception=True,
        real=False,
    ),
    "ppl": Kind(
        definition="perceptual path length in z, linear, LPIPS at 64x64 of uint8 images, percentiles 1 to 99 "
        "(arXiv:1812.04948, as torch-fidelity)",
        outputs=("ppl",),
        options=("path_epsilon",),
        real=False,
        default=10_000,
    ),
    "lpips": Kind(
        definition="mean LPIPS of pairs of images, of one class where there are classes (arXiv:1801.03924)",
        outputs=("lpips",),
        real=False,
        default=2_000,
    ),
}
PERCEPTUAL = ("ppl", "lpips")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as it was asked for.

    Attributes:
        kind: key of `KINDS`.
        count: number of images to judge; None for the default.
    """

    kind: str
    count: int | None = None

    @property
    def definition(self) -> Kind:
        """The entry of `KINDS`."""
        return KINDS[self.kind]

    def names(self, extractor: str | None) -> dict[str, str]:
        """Return the name of the record by output: `fid50k`, or `fd_fashion_classifier` under another extractor.

        Args:
            extractor: short name of an extractor that is not FID's; None for Inception, or without an extractor.
        """
        count = "" if self.count is None else _short(self.count)
        suffix = "" if extractor is None or self.kind in PERCEPTUAL else f"_{extractor}"
        return {
            output: f"{output}{suffix}{'_' if suffix and count else ''}{count}" for output in self.definition.outputs
        }


def parse_metrics(text: str) -> list[Metric]:
    """Parse a list such as `fid50k,kid,pr` and return its metrics, each once.

    Raises:
        EvaluationError: an unknown name (the nearest is named), a count below 2 or above 64 bits, or no name at all.
    """
    found: dict[str, Metric] = {}
    for word in (word.strip().lower() for word in text.split(",") if word.strip()):
        match = re.fullmatch(r"([a-z_]+)(?:([0-9]{1,18})(k|m)?)?", word)
        if match is None or match[1] not in KINDS:
            raise EvaluationError(f"--metrics {word}: no such metric{nearest(word, KINDS)}; known: {', '.join(KINDS)}")
        count = int(match[2]) * {"k": 1_000, "m": 1_000_000, None: 1}[match[3]] if match[2] else None
        if count is not None and count < 2:
            raise EvaluationError(f"--metrics {word}: at least 2 images")
        if count is not None and count > LARGEST:
            raise EvaluationError(f"--metrics {word}: so many images do not exist")
        found[word] = Metric(kind=match[1], count=count)
    if not found:
        raise EvaluationError(f"--metrics: name at least one of {', '.join(KINDS)}")
    return list(found.values())


def check_extractor(metrics: list[Metric], extractor: Extractor | None) -> None:
    """Refuse metrics whose names promise another extractor than the one in use.

    Raises:
        EvaluationError: FID without Inception, or the reverse.
    """
    if extractor is None:
        return
    for metric in metrics:
        wanted = metric.definition.inception
        if wanted is True and not extractor.is_inception:
            other = metric.kind.replace("fid", "fd").replace("kid", "kd")
            hint = f"; ask for {other}" if other != metric.kind else ""
            name = extractor.identity.name
            raise EvaluationError(f"--metrics {metric.kind} is defined by FID's Inception, not {name}{hint}")
        if wanted is False and extractor.is_inception:
            other = metric.kind.replace("fd", "fid").replace("kd", "kid")
            raise EvaluationError(f"--metrics {metric.kind}: with FID's Inception it is called {other}")


def _short(count: int) -> str:
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)
