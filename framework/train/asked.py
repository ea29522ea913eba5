"""A launch's request: a recipe, how to run it, and where its files and its data are."""

from __future__ import annotations

from dataclasses import dataclass

from framework.data.stream import Stream, open_stream
from framework.recipe import Recipe
from framework.runtime.session import Session
from framework.train.config import RunConfig
from framework.train.folder import RunFolder

MOST_SKIPPED_SAMPLES = 1_000
"""The most damaged samples that one process skips in one epoch, with `--on-bad-sample skip`."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The request of a launch: what it trains, how, and where its files and its data are."""

    recipe: Recipe
    config: RunConfig
    session: Session
    folder: RunFolder
    data: str
    """The location of the shards on this machine."""

    def stream(self, resolution: int) -> Stream:
        """Open the real images at a resolution in pixels.

        Raises:
            DataError: the shards cannot be read, or are not as the recipe says.
        """
        data, config = self.recipe.data, self.config
        return open_stream(
            self.data,
            resolution=resolution,
            channels=data.channels,
            classes=data.classes,
            seed=self.recipe.seed,
            flip=data.flip,
            window=data.window,
            cache_folder=config.cache_folder,
            cache_bytes=int(config.cache_gb * 1e9),
            on_bad_sample=config.on_bad_sample,
            max_skipped=MOST_SKIPPED_SAMPLES,
            workers=config.workers,
            pin_memory=self.session.device.type == "cuda",
            channels_last=True,
        )
