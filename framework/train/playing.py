"""Training along the clock: segment after segment, and back to a sound checkpoint after a collapse."""

from __future__ import annotations

from contextlib import ExitStack

from framework.engines.base import forget_moments
from framework.growth import Segment, remaining
from framework.runtime.health import Collapse
from framework.runtime.signals import StopVote
from framework.train.asked import Run
from framework.train.audit import recorded
from framework.train.duties import Duties
from framework.train.fitting import Cut, fitting_micro_batches, kept_micro_batches
from framework.train.loop import Outcome, train
from framework.train.rollback import answer
from framework.train.seating import Seats, grow_to, release
from framework.train.watching import awaited


def play(this: Run, seats: Seats, duties: Duties, stop: StopVote, *, images: int) -> tuple[Outcome, int]:
    """Train from `images` until the run ends or a signal arrives; returns why it ended and the clock.

    Raises:
        Collapse: going on makes no sense, and the run was not told to go back, or cannot.
    """
    while True:
        try:
            return _segments(this, seats, duties, stop, images=images)
        except Collapse as collapse:
            images = _go_back(this, seats, duties, collapse)


def _segments(this: Run, seats: Seats, duties: Duties, stop: StopVote, *, images: int) -> tuple[Outcome, int]:
    outcome: Outcome = "finished"
    for segment, end in remaining(this.recipe.segments(), start=images, end=this.recipe.images):
        outcome, images = _segment(this, segment, seats, duties, stop, images=images, end=end)
        if outcome == "stopped":
            break
    return outcome, images


def _go_back(this: Run, seats: Seats, duties: Duties, collapse: Collapse) -> int:
    """To the newest checkpoint from before the trouble; returns the clock there (a collective)."""
    duties.watchdog.progress.beat("going back to a sound checkpoint", long=True)
    duties.settle()
    checkpoint, course = answer(
        collapse,
        duties.course,
        on_collapse=this.config.on_collapse,
        most=this.config.most_rollbacks,
        folder=this.folder,
        session=this.session,
    )
    seats.state.restore(checkpoint)
    grow_to(seats.players, this.recipe.segments(), images=checkpoint.images)
    duties.go_back(checkpoint, course)
    return checkpoint.images


def _segment(
    this: Run, segment: Segment, seats: Seats, duties: Duties, stop: StopVote, *, images: int, end: int
) -> tuple[Outcome, int]:
    """Train on one segment of the clock, from `images` to `end`."""
    recipe, config, session = this.recipe, this.config, this.session
    growth = recipe.growth
    if growth and growth.reset_optimizer and images == segment.start > 0:
        for player in seats.players.values():
            forget_moments(player)
    if config.auto_micro_batch:
        micro_batches = fitting_micro_batches(recipe, segment, config, session=session)
    else:
        micro_batches, why = kept_micro_batches(recipe, segment, config, world=session.world, before=duties.cut)
        if why:
            duties.status.say(why)
    if duties.cut is None or session.world >= duties.cut.world:
        duties.cut = Cut(world=session.world, micro_batches=micro_batches)
    share = {"micro_batches": micro_batches, "rank": session.rank, "world": session.world}
    with ExitStack() as stack:
        stream, shift = this.stream(segment.resolution), duties.course.shift_images
        batches = stack.enter_context(stream.batches(images + shift, batch_size=segment.batch_size, **share))
        keys, progress = this.folder.path / "keys", duties.watchdog.progress
        progress.details = awaited(stream, progress, shift_images=shift, batch_size=segment.batch_size, **share)
        duties.phase = str(segment) if growth else "train"
        outcome, images = train(
            seats.game(duties.course.slowed(segment), **share),
            recorded(batches, folder=keys, rank=session.rank) if config.record_keys else batches,
            images=images,
            total_images=end,
            seed=recipe.seed,
            duties=duties.table(
                log_every_images=config.log_every_images,
                sample_every_images=config.sample_every_images,
                save_every_images=config.save_every_images,
                eval_every_images=config.eval_every_images,
            ),
            window=duties.window,
            guard=duties.guard,
            stop=stop,
            progress=progress,
        )
    if growth and outcome == "finished":
        release(session.device)
        duties.finish_phase(images)
    return outcome, images
