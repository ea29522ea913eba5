"""Images of an evaluation inside a run: each batch tells the watchdog that there is progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from framework.evaluation.generated import GeneratedImages
from framework.evaluation.images import Part, ShardImages

SEED = 0
"""Of latents and labels, as `framework evaluate` has it: runs that differ in their seed are measured alike."""


@dataclass(frozen=True, kw_only=True)
class WatchedGenerator(GeneratedImages):
    """Generated images."""

    beat: Callable[[], None]

    def draw(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """See `GeneratedImages`."""
        self.beat()
        return super().draw(z, labels)


class WatchedShards(ShardImages):
    """The training data in the fixed order of evaluations."""

    def __init__(self, location: str, *, beat: Callable[[], None], **options: Any) -> None:
        self._beat = beat
        super().__init__(location, **options)

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """See `ImageSet`."""
        for part in super().parts(count=count, rank=rank, world=world):
            self._beat()
            yield part


def watched_generator(
    network: nn.Module,
    *,
    classes: int,
    beat: Callable[[], None],
    resolution: int = 0,
    real: ShardImages | None = None,
) -> WatchedGenerator:
    """A generator as `framework evaluate` draws from it by default; the protocol is the same.

    Args:
        network: in eval mode, with the average.
        classes: 0 for none.
        resolution: of its images.
        real: the data, whose shares of the classes are drawn.
    """
    counts = real.label_counts if real is not None else ()
    return WatchedGenerator(
        network=network,
        seed=SEED,
        classes=classes,
        label_shares=tuple(map(float, counts)) if len(counts) == classes else (),
        notes={"resolution": [resolution, resolution], "standing_statistics": 0},
        beat=beat,
    )
