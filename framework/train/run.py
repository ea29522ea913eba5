"""One run from its folder to its end: restore, open the data, play, save, say where everything is."""

from __future__ import annotations

import shlex
import socket
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path

from framework.checkpoint import Checkpoint, Retention, Writer
from framework.data.stream import Stream
from framework.engines.choose import check
from framework.quantities import format_count
from framework.recipe import SIDES, Recipe
from framework.runtime.health import FiniteGuard
from framework.runtime.launchers import launcher_to_watch
from framework.runtime.session import Session
from framework.runtime.signals import StopVote
from framework.runtime.stopping import end_on_signals
from framework.runtime.straggling import Pace, Stragglers
from framework.runtime.watchdog import Watchdog
from framework.tracking import NullTracker, Tracker
from framework.tracking.records import JOURNAL_NAME, last_start
from framework.tracking.system import SystemSampler
from framework.train.asked import Run
from framework.train.config import RunConfig
from framework.train.console import Status, short
from framework.train.duties import Duties
from framework.train.evaluating import open_evaluator
from framework.train.folder import check_data, check_science, run_folder
from framework.train.initial import initialise_from
from framework.train.loop import Outcome
from framework.train.playing import play
from framework.train.samples import SampleGrids
from framework.train.seating import Seats, grow_to, seat
from framework.train.sentry import Sentry
from framework.train.tracked import introduce, journal_is_closed, log_generator, open_tracker
from framework.train.watching import watching
from framework.train.window import Window

NUM_REALS_LOOKED_AT = 600
RESUMES = "; the same command resumes"


def run(recipe: Recipe, config: RunConfig, *, session: Session, data: str) -> Outcome:
    """Train `recipe` in its run folder, from the newest valid checkpoint if there is one.

    Args:
        data: location of the shards on this machine.

    Raises:
        FrameworkError: something the user can mend; the newest checkpoint is intact.
    """
    folder = run_folder(recipe, config)
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
    stream = this.stream(recipe.data.resolution)
    if session.is_main:
        this.folder.prepare(recipe)
    seats = seat(recipe, config, session=session, stack=stack)
    start, guard = 0, FiniteGuard(most_in_a_row=config.most_skipped_steps)
    if checkpoint:
        check_data(stream, checkpoint, allow_change=config.allow_change)
        seats.state.restore(checkpoint)
        start = checkpoint.images
    elif config.init_from is not None:
        initialise_from(config.init_from, seats.state)
    duties = _duties(this, stream, seats, guard, tracker, watchdog, checkpoint, stack)
    if checkpoint:
        duties.restore(checkpoint)
    _begin(this, duties, stream, seats, checkpoint)
    end_on_signals()  # also after training: nothing is left to mark
    stop = stack.enter_context(StopVote(world=session.world, launcher=launcher_to_watch()).listening())
    outcome, images = play(this, seats, duties, stop, images=start)
    stop.close()
    watchdog.progress.beat("the end of the run", long=True)
    duties.finish(images)
    if session.is_main and outcome == "stopped":
        this.folder.mark_preempted(images)
    return outcome, images, duties.status


def _already_finished(this: Run, checkpoint: Checkpoint) -> None:
    this.folder.preempted.unlink(missing_ok=True)
    print(f"already finished: {format_count(checkpoint.images)} images seen. Train longer with --images.")
    if not journal_is_closed(this.folder):  # the launch that finished was killed before it could say so
        tracker = open_tracker(this.recipe, this.config, this.folder)
        log_generator(tracker, checkpoint.path, this.recipe)
        if left := tracker.finish("FINISHED"):
            print(left)
    print(_where(this, checkpoint.images))


def _duties(
    this: Run,
    stream: Stream,
    seats: Seats,
    guard: FiniteGuard,
    tracker: Tracker | NullTracker,
    watchdog: Watchdog,
    checkpoint: Checkpoint | None,
    stack: ExitStack,
) -> Duties:
    recipe, config, session, folder = this.recipe, this.config, this.session, this.folder
    start = checkpoint.images if checkpoint else 0
    status = Status(name=recipe.name, images=start, total=recipe.images, quiet=not session.is_main)
    evaluator = open_evaluator(
        this,
        network=seats.players["generator"].network,
        average=seats.average,
        checkpoint=checkpoint,
        tracker=tracker,
        status=status,
        progress=watchdog.progress,
    )
    writer = Writer(
        folder.checkpoints,
        rank=session.rank,
        world=session.world,
        token=session.broadcast_text(uuid.uuid4().hex[:12]),
        retention=Retention(
            last=config.keep_last,
            every_images=config.keep_every_images,
            best=config.keep_best,
            **(evaluator.scores() if evaluator else {}),
        ),
    )
    stack.enter_context(writer)
    return Duties(
        session=session,
        recipe=recipe,
        state=seats.state,
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
        sentry=Sentry(
            recipe, state=seats.state, average=seats.average, session=session, on_collapse=config.on_collapse
        ),
        grids=SampleGrids(
            recipe=recipe,
            average=seats.average,
            session=session,
            tracker=tracker,
            class_names=stream.class_names,
        ),
        evaluator=evaluator,
    )


def _begin(this: Run, duties: Duties, stream: Stream, seats: Seats, checkpoint: Checkpoint | None) -> None:
    start = checkpoint.images if checkpoint else 0
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
    if checkpoint:
        say(f"resumed at {format_count(start)} images")
        duties.tracker.resumed(images=start)
    else:
        say("new run")
    if not duties.sentry.knows_the_data:
        reals, labels = None, None
        if session.is_main:
            count = min(stream.count, NUM_REALS_LOOKED_AT)
            with stream.batches(0, batch_size=count, stop=count) as batches:
                batch = next(batches)
            reals, labels = batch.images, batch.labels
            duties.grids.show_reals(reals, labels)
        duties.sentry.meet(reals, labels)
    if checkpoint:
        return
    duties.sample(0)  # MLflow's image slider opens at the first step
    if config.on_collapse == "rollback":
        duties.save(0)  # in the beginning there is nothing else to go back to


def _where(this: Run, images: int) -> str:
    folder = this.folder
    grids = sorted((folder.path / "samples").glob("ema-*.png"))
    lines = {
        "samples": short(grids[-1]) if grids else "none yet",
        "checkpoint": short(folder.checkpoints / str(images)),
    }
    if last_start(this.folder.path / JOURNAL_NAME, missing_ok=True).get("uri"):
        lines["review in MLflow"] = shlex.join(
            [short(Path(sys.executable).parent / "framework"), "review", short(folder.path)]
        )
    return "\n".join(f"  {name}: {text}" for name, text in lines.items())
