"""The images of an evaluation inside a run; each batch shows the watchdog that there is progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from framework.evaluation.generated import GeneratedImages
from framework.evaluation.images import Part, ShardImages

SEED = 0
"""The seed of latents and labels, that of `framework evaluate`, so that runs of different seeds are measured alike."""


@dataclass(frozen=True, kw_only=True)
class WatchedGenerator(GeneratedImages):
    """Generated images, each batch of which calls `beat`."""

    beat: Callable[[], None]

    def draw(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Draw images (N, C, H, W) from latents (N, z_dim) and labels (N,), see `GeneratedImages`."""
        self.beat()
        return super().draw(z, labels)


class WatchedShards(ShardImages):
    """The training data in the fixed order of evaluations, each part of which calls `beat`."""

    def __init__(self, location: str, *, beat: Callable[[], None], **options: Any) -> None:
        self._beat = beat
        super().__init__(location, **options)

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """Yield this process's part of `count` images, see `ImageSet`."""
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
    """Return a generator's images as `framework evaluate` draws them by default; the protocol is the same.

    Args:
        network: the generator in eval mode, with the average.
        classes: number of classes; 0 for none.
        beat: called before every batch.
        resolution: side of its images in pixels.
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
