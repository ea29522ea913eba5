"""Train along the clock: segment after segment, and back to a sound checkpoint after a collapse."""

from __future__ import annotations

from contextlib import ExitStack

from framework.engines.base import forget_moments
from framework.recipe.growth import Segment, remaining
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
    """Train from `images` until the run ends or a signal arrives.

    Returns:
        Why it ended, and the clock (real images seen).

    Raises:
        Collapse: training has collapsed, and the run was not told to go back, or cannot.
    """
    while True:
        try:
            return _segments(this, seats, duties, stop, images=images)
        except Collapse as collapse:
            images = _go_back(this, seats, duties, collapse)


def _segments(this: Run, seats: Seats, duties: Duties, stop: StopVote, *, images: int) -> tuple[Outcome, int]:
    """Play the segments that are left; returns why it ended and the clock."""
    outcome: Outcome = "finished"
    for segment, end in remaining(this.recipe.segments(), start=images, end=this.recipe.images):
        outcome, images = _segment(this, segment, seats, duties, stop, images=images, end=end)
        if outcome == "stopped":
            break
    return outcome, images


def _go_back(this: Run, seats: Seats, duties: Duties, collapse: Collapse) -> int:
    """Go back to the newest checkpoint from before the collapse; returns the clock there (a collective)."""
    # The newest sound checkpoint may still be on its way to the disk.
    duties.progress.beat("going back to a sound checkpoint", long=True)
    duties.saver.settle()
    checkpoint, course = answer(
        collapse,
        duties.record.course,
        on_collapse=this.config.on_collapse,
        most=this.config.most_rollbacks,
        folder=this.folder,
        session=this.session,
    )
    # Put back tensors, shapes and small states.
    seats.state.restore(checkpoint)
    grow_to(seats.players, this.recipe.segments(), images=checkpoint.images)
    duties.go_back(checkpoint, course)
    return checkpoint.images


def _segment(
    this: Run, segment: Segment, seats: Seats, duties: Duties, stop: StopVote, *, images: int, end: int
) -> tuple[Outcome, int]:
    """Train on one segment of the clock, from `images` to `end`; returns why it ended and the clock."""
    recipe, config, session = this.recipe, this.config, this.session
    growth, record, progress = recipe.growth, duties.record, duties.progress
    # New layers begin with a new optimiser, where the recipe says so.
    if growth and growth.reset_optimizer and images == segment.start > 0:
        for player in seats.players.values():
            forget_moments(player)
    # This segment's data, from the clock on, at its resolution.
    micro_batches = _micro_batches(this, segment, duties)
    share = {"micro_batches": micro_batches, "rank": session.rank, "world": session.world}
    with ExitStack() as stack:
        stream, shift = this.stream(segment.resolution), record.course.shift_images
        batches = stack.enter_context(stream.batches(images + shift, batch_size=segment.batch_size, **share))
        keys = this.folder.path / "keys"
        progress.details = awaited(stream, progress, shift_images=shift, batch_size=segment.batch_size, **share)
        # Play to the end of the segment.
        duties.reporter.phase = str(segment) if growth else "train"
        outcome, images = train(
            seats.game(record.course.slowed(segment), **share),
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
            window=record.window,
            guard=record.guard,
            stop=stop,
            progress=progress,
        )
    # Between phases: give memory back, and save.
    if growth and outcome == "finished":
        release(session.device)
        duties.finish_phase(images)
    return outcome, images


def _micro_batches(this: Run, segment: Segment, duties: Duties) -> int:
    """Return the number of micro-batches in a segment, and keep it for checkpoints (a collective)."""
    recipe, config, session, record = this.recipe, this.config, this.session, duties.record
    if config.auto_micro_batch:
        micro_batches = fitting_micro_batches(recipe, segment, config, session=session)
    else:
        micro_batches, why = kept_micro_batches(recipe, segment, config, world=session.world, before=record.cut)
        if why:
            duties.reporter.status.say(why)
    if record.cut is None or session.world >= record.cut.world:
        record.cut = Cut(world=session.world, micro_batches=micro_batches)
    return micro_batches
