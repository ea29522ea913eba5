"""Show samples of a run: what its game makes of the averaged network, and real samples in the same layout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from framework.engines.ema import EMA
from framework.games.base import Game
from framework.games.showing import Showing
from framework.media import Media
from framework.networks.blocks.spectral import power_iteration
from framework.recipe import Recipe
from framework.runtime.session import Session
from framework.sampling.generate import POWER_ITERATIONS
from framework.tracking import NullTracker, Tracker


@contextlib.contextmanager
def averaged(average: EMA) -> Iterator[nn.Module]:
    """Yield the network with its averaged weights, ready to draw from; see `EMA.swapped_in`."""
    with average.swapped_in() as network:
        power_iteration(network, steps=POWER_ITERATIONS)
        yield network


@dataclass(kw_only=True)
class SampleGrids:
    """What a run shows of its samples, which goes into the tracker."""

    recipe: Recipe
    average: EMA
    session: Session
    tracker: Tracker | NullTracker
    class_names: Sequence[str]
    held_out: Mapping[str, Tensor] = field(default_factory=dict)
    """Some samples that are not trained on, by field, the same on every process; see `Showing`."""
    reals: Mapping[str, Tensor] = field(default_factory=dict)
    """Some real samples by field, on the main process; see `Showing`."""

    def show_samples(self, images_seen: int) -> None:
        """Show samples of the averaged network; a collective where the average is sharded."""
        if not (self.average.collective or self.session.is_main):
            return
        with averaged(self.average) as network:
            shown = self._game.show(network, self._showing)
        if self.session.is_main:
            self._show(shown, images_seen=images_seen)

    def show_reals(self, reals: Mapping[str, Tensor]) -> None:
        """Show real samples in the layout of generated ones, for comparison.

        Args:
            reals: some hundred samples by field, as a batch has them.
        """
        self._show(self._game.show_reals(replace(self._showing, reals=reals)), images_seen=0)

    @property
    def _game(self) -> Game:
        assert isinstance(self.recipe.game, Game)
        return self.recipe.game

    @property
    def _showing(self) -> Showing:
        return Showing(recipe=self.recipe, class_names=self.class_names, reals=self.reals, held_out=self.held_out)

    def _show(self, shown: Mapping[str, Media], *, images_seen: int) -> None:
        for key, media in shown.items():
            self.tracker.show(key, media, images_seen=images_seen)
