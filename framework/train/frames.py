"""Records a game of points while it is played, and writes the page of it: `frames.jsonl` and `game.html` of a run."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from framework.engines.base import Engine
from framework.evaluation.metrics.modes import ModesHit
from framework.games.frames import Camera, can_be_recorded, frame_clocks, is_end_alone
from framework.games.showing import sample_field
from framework.media.game_page import game_page
from framework.recipe import Recipe
from framework.runtime.session import Session
from framework.tracking import NullTracker, Tracker
from framework.tracking.frames import FramesFile, read_recording
from framework.utils.errors import FrameworkError
from framework.utils.quantities import format_bytes

PAGE_NAME = "game.html"

log = logging.getLogger("framework")


@dataclass(kw_only=True)
class GameRecorder:
    """Makes a frame of a game of points at each of its clocks; of other games, and where it is not wanted, none."""

    recipe: Recipe
    players: Mapping[str, Engine]
    session: Session
    folder: Path
    """The run folder."""
    wanted: bool = True
    seconds: float = 0.0
    """The processor time that frames have taken in this launch."""
    _camera: Camera | None = None
    _file: FramesFile | None = None
    _last: int = -1
    """The clock of the last frame, the same on every process; -1 before the first."""
    _begun: float = field(default_factory=time.process_time)

    @property
    def clocks(self) -> tuple[int, ...]:
        """The clocks at which frames are made; empty where the game is not recorded."""
        if not (self.wanted and can_be_recorded(self.recipe)):
            return ()
        return frame_clocks(images=self.recipe.images, step_images=self._step_images)

    def begin(self, reals: Mapping[str, Tensor] | None, *, images_seen: int, is_new: bool) -> None:
        """Look at the real points, and keep the frames up to the clock from which training goes on (a collective).

        Args:
            reals: real samples by field, as a batch has them, on rank 0; None elsewhere.
            images_seen: the clock.
            is_new: whether no checkpoint is continued.
        """
        if not self.clocks:
            return
        known: dict[str, list[list[float]] | list[int]] = {}
        if self.session.is_main and reals is not None:
            points, labels = reals[sample_field(self.recipe).name], reals.get("label")
            finite = points.isfinite().all(1)
            known = {"points": points[finite].tolist()} | (
                {} if labels is None else {"labels": labels[finite].tolist()}
            )
        # The same square on every process, because all of them ask the networks.
        known = json.loads(self.session.broadcast_text(json.dumps(known)))
        points = torch.tensor(known.get("points", []), dtype=torch.float32).view(-1, 2)
        labels = torch.tensor(known["labels"]) if "labels" in known and self.recipe.data.classes else None
        self._camera = Camera.of(self.recipe, points, labels, generator=self.players["generator"].network)
        if self._camera is None:
            return
        metric = self._modes_hit
        modes = tuple((x, y) for x, y in metric.centres) if metric is not None else ()
        scene = self._camera.scene(modes=modes, mode_radius=metric.radius if metric is not None else 0.0)
        last = -1
        if self.session.is_main:
            self._file = FramesFile(self.folder, scene)
            kept = -1 if is_new else images_seen
            last = self._file.begin(images_seen=kept, total_images=self.recipe.images)
        self._last = int(self.session.max_over_ranks(last))
        if is_new:
            self.record(0)

    def record(self, images_seen: int) -> None:
        """Make the frame of a clock, once (a collective)."""
        if self._camera is None or images_seen <= self._last:
            return
        begun, self._last = time.process_time(), images_seen
        alone = is_end_alone(images_seen, step_images=self._step_images)
        frame, fakes = self._camera.frame(self.players, images_seen=images_seen, is_end=alone)
        if self._file is not None:
            metric = self._modes_hit
            if metric is not None:
                good = metric.accumulate({"point": fakes})["good"]
                frame = replace(frame, hits=tuple(int(count) for count in good.tolist()))
            self._file.append(frame)
        self.seconds += time.process_time() - begun

    def go_back(self, images_seen: int) -> None:
        """Forget the frames after a clock to which training returns (a collective)."""
        if self._camera is None:
            return
        if self._file is not None:
            self._file.begin(images_seen=images_seen, total_images=self.recipe.images)
        self._last = images_seen

    def finish(self, tracker: Tracker | NullTracker) -> str:
        """Write the page, log it, and say in a sentence what it cost; empty where there is none."""
        if self._file is None or self._file.num_frames == 0:
            return ""
        tracker.flush()
        page = write_game_page(self.folder, tracker)
        if page is None:
            return ""
        share = self.seconds / max(time.process_time() - self._begun, 1e-9)
        size = format_bytes(page.stat().st_size)
        return f"game: {self._file.num_frames} frames, {size}, {share:.1%} of this launch's processor time"

    @property
    def _step_images(self) -> int:
        return self.recipe.game.images_per_step(self.recipe.batch_size)

    @property
    def _modes_hit(self) -> ModesHit | None:
        """The recipe's metric of modes in the plane; None without one."""
        found = [one for one in self.recipe.metrics if isinstance(one, ModesHit) and len(one.centres[0]) == 2]
        return found[0] if found else None


def write_game_page(run_folder: Path, tracker: Tracker | NullTracker) -> Path | None:
    """Write the page of a recorded game into its run folder and log it; return its path, or None without a game.

    Nothing depends on the page: whatever the disk refuses is a warning.
    """
    try:
        recording = read_recording(run_folder)
        if recording is None:
            return None
        page = game_page([recording]).save(run_folder / PAGE_NAME)
    except (OSError, FrameworkError) as error:
        log.warning("no page of the game: %s", error)
        return None
    tracker.artifact(page)
    return page
