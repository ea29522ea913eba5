"""One run from its folder to its end: restore, open the data, play, save, say where everything is."""

from __future__ import annotations

import socket
import sys
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from framework.checkpoint import Checkpoint, Retention, Writer
from framework.data.stream import Stream, open_stream
from framework.engines.base import forget_moments
from framework.engines.choose import check
from framework.growth import Segment, remaining
from framework.quantities import format_count
from framework.recipe import SIDES, Recipe
from framework.runtime.health import FiniteGuard
from framework.runtime.session import Session
from framework.runtime.signals import StopVote
from framework.runtime.straggling import Pace, Stragglers
from framework.runtime.watchdog import Watchdog
from framework.tracking import NullTracker, Tracker
from framework.tracking.system import SystemSampler
from framework.train.audit import recorded
from framework.train.config import RunConfig
from framework.train.console import Status, short
from framework.train.duties import Duties
from framework.train.fitting import Cut, fitting_micro_batches, kept_micro_batches
from framework.train.folder import RunFolder, check_data, check_science
from framework.train.initial import initialise_from
from framework.train.loop import Outcome, Window, train
from framework.train.seating import Seats, grow_to, release, seat
from framework.train.tracked import introduce, journal_is_closed, log_generator, open_tracker
from framework.train.watching import awaited, watching

NUM_REALS_SHOWN_FROM = 600
MOST_SKIPPED_SAMPLES = 1_000  # by one process in one epoch, with --on-bad-sample skip
RESUMES = "; the same command resumes"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one launch was asked for."""

    recipe: Recipe
    config: RunConfig
    session: Session
    folder: RunFolder
    data: str
    """Location of the shards on this machine."""


def run(recipe: Recipe, config: RunConfig, *, session: Session, data: str) -> Outcome:
    """Train `recipe` in its run folder, from the newest valid checkpoint if there is one.

    Args:
        data: location of the shards on this machine.

    Raises:
        FrameworkError: something the user can mend; the newest checkpoint is intact.
    """
    folder = RunFolder(path=(config.out or Path("runs") / recipe.name).resolve())
    this = Run(recipe=recipe, config=config, session=session, folder=folder, data=data)
    for side in SIDES:
        player = getattr(recipe, side)
        check(
            player.engine or config.engine,
            player,
            side=side,
            device=session.device,
            precision=config.precision,
            world=session.world,
        )
    checkpoint = folder.newest_checkpoint(session)
    if checkpoint is None:
        folder.refuse_another_recipe(recipe, session)
    else:
        check_science(recipe, checkpoint, allow_change=config.allow_change)
        if checkpoint.images >= recipe.images:
            if session.is_main:
                _already_finished(this, checkpoint)
            return "finished"
    tracker = open_tracker(recipe, config, folder) if session.is_main else NullTracker()
    ended = "FAILED"
    with ExitStack() as stack:
        try:
            outcome, images, status = _train(this, checkpoint, tracker, stack)
            ended = "FINISHED" if outcome == "finished" else "KILLED"
        finally:
            left = tracker.finish(ended)
        if session.is_main:
            status.say(f"{outcome} at {format_count(images)} images{RESUMES if outcome == 'stopped' else ''}")
            status.say(_where(this, images))
            if left:
                status.say(left)
    return outcome


def _train(
    this: Run, checkpoint: Checkpoint | None, tracker: Tracker | NullTracker, stack: ExitStack
) -> tuple[Outcome, int, Status]:
    recipe, config, session = this.recipe, this.config, this.session
    stacks = this.folder.path / "stalls"
    watchdog = stack.enter_context(watching(session, stall_seconds=config.stall_seconds, folder=stacks))
    stream = _open_stream(this, recipe.data.resolution)
    if session.is_main:
        this.folder.prepare(recipe)
    seats = seat(recipe, config, session=session, stack=stack)
    start, guard = 0, FiniteGuard(most_in_a_row=config.most_skipped_steps)
    if checkpoint:
        check_data(stream, checkpoint, allow_change=config.allow_change)
        seats.state.restore(checkpoint)
        start, guard.skipped_steps = checkpoint.images, checkpoint.record["skipped_steps"]
    elif config.init_from is not None:
        initialise_from(config.init_from, seats.state)
    duties = _duties(this, stream, seats, guard, tracker, watchdog, start, stack)
    if checkpoint and checkpoint.record.get("cut"):
        duties.cut = Cut(**checkpoint.record["cut"])
    _begin(this, duties, stream, seats, start)
    stop = stack.enter_context(StopVote(world=session.world).listening())
    outcome: Outcome = "finished"
    images = start
    for segment, end in remaining(recipe.segments(), start=start, end=recipe.images):
        outcome, images = _play(this, segment, seats, duties, stop, images=images, end=end)
        if outcome == "stopped":
            break
    stop.close()
    watchdog.progress.beat("the end of the run", long=True)
    duties.finish(images)
    if session.is_main and outcome == "stopped":
        this.folder.mark_preempted(images)
    return outcome, images, duties.status


def _play(
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
        stream = _open_stream(this, segment.resolution)
        batches = stack.enter_context(stream.batches(images, batch_size=segment.batch_size, **share))
        keys, progress = this.folder.path / "keys", duties.watchdog.progress
        progress.details = awaited(stream, progress, batch_size=segment.batch_size, **share)
        duties.phase = str(segment) if growth else "train"
        outcome, images = train(
            seats.game(segment, **share),
            recorded(batches, folder=keys, rank=session.rank) if config.record_keys else batches,
            images=images,
            total_images=end,
            seed=recipe.seed,
            duties=duties.table(
                log_every_images=config.log_every_images,
                sample_every_images=config.sample_every_images,
                save_every_images=config.save_every_images,
            ),
            window=duties.window,
            guard=duties.guard,
            stop=stop,
            progress=progress,
        )
    if growth:
        release(session.device)
        duties.finish_phase(images)
    return outcome, images


def _already_finished(this: Run, checkpoint: Checkpoint) -> None:
    this.folder.preempted.unlink(missing_ok=True)
    print(f"already finished: {format_count(checkpoint.images)} images seen. Train longer with --images.")
    if not journal_is_closed(this.folder):  # the launch that finished was killed before it could say so
        tracker = open_tracker(this.recipe, this.config, this.folder)
        log_generator(tracker, checkpoint.path)
        if left := tracker.finish("FINISHED"):
            print(left)
    print(_where(this, checkpoint.images))


def _open_stream(this: Run, resolution: int) -> Stream:
    data, config = this.recipe.data, this.config
    return open_stream(
        this.data,
        resolution=resolution,
        channels=data.channels,
        classes=data.classes,
        seed=this.recipe.seed,
        flip=data.flip,
        window=data.window,
        cache_folder=config.cache_folder,
        cache_bytes=int(config.cache_gb * 1e9),
        on_bad_sample=config.on_bad_sample,
        max_skipped=MOST_SKIPPED_SAMPLES,
        workers=config.workers,
        pin_memory=this.session.device.type == "cuda",
        channels_last=True,
    )


def _duties(
    this: Run,
    stream: Stream,
    seats: Seats,
    guard: FiniteGuard,
    tracker: Tracker | NullTracker,
    watchdog: Watchdog,
    start: int,
    stack: ExitStack,
) -> Duties:
    recipe, config, session, folder = this.recipe, this.config, this.session, this.folder
    writer = Writer(
        folder.checkpoints,
        rank=session.rank,
        world=session.world,
        token=session.broadcast_text(uuid.uuid4().hex[:12]),
        retention=Retention(last=config.keep_last, every_images=config.keep_every_images),
    )
    stack.enter_context(writer)
    status = Status(name=recipe.name, images=start, total=recipe.images, quiet=not session.is_main)
    return Duties(
        session=session,
        recipe=recipe,
        state=seats.state,
        average=seats.average,
        stream=stream,
        window=Window(pace=Pace(session.device)),
        guard=guard,
        tracker=tracker,
        writer=writer,
        checkpoints=folder.checkpoints,
        status=stack.enter_context(status),
        system=SystemSampler(folder.path),
        watchdog=watchdog,
        stragglers=Stragglers(session.gather_names(socket.gethostname())),
    )


def _begin(this: Run, duties: Duties, stream: Stream, seats: Seats, start: int) -> None:
    session, config, say = this.session, this.config, duties.status.say
    if isinstance(duties.tracker, Tracker):
        introduce(duties.tracker, this.recipe, config, this.folder, stream)
        this.folder.preempted.unlink(missing_ok=True)
    say(f"{this.recipe.name}: {this.recipe.paper}")
    say(
        f"{stream.count:,} images, {session.world} process(es) on {session.device.type}, engine {config.engine}, "
        f"{config.precision}, global batch {this.recipe.batch_size}"
    )
    grow_to(seats.players, this.recipe.segments(), images=start)
    if start:
        say(f"resumed at {format_count(start)} images")
        duties.tracker.resumed(images=start)
        return
    say("new run")
    if session.is_main:
        count = min(stream.count, NUM_REALS_SHOWN_FROM)
        with stream.batches(0, batch_size=count, stop=count) as batches:
            batch = next(batches)
        duties.show_reals(batch.images, batch.labels)
    duties.sample(0)  # MLflow's image slider opens at the first step


def _where(this: Run, images: int) -> str:
    folder = this.folder
    grids = sorted((folder.path / "samples").glob("ema-*.png"))
    lines = {
        "samples": short(grids[-1]) if grids else "none yet",
        "checkpoint": short(folder.checkpoints / str(images)),
    }
    if this.config.tracking != "none":
        lines["review in MLflow"] = f"{short(Path(sys.executable).parent / 'framework')} review {short(folder.path)}"
    return "\n".join(f"  {name}: {text}" for name, text in lines.items())
