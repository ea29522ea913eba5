"""A run from its folder to its end: restore, open the data, play every phase, save, and say where everything is.

Training goes along the clock, segment after segment, and back to a sound checkpoint after a collapse.
"""

from __future__ import annotations

import shlex
import socket
import sys
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor

from framework.checkpoint import Checkpoint, Retention, Writer
from framework.data.consumed import recorded
from framework.data.joined import SampleStream
from framework.engines.base import forget_moments
from framework.engines.choose import check
from framework.games.base import Game
from framework.games.showing import COLUMNS
from framework.recipe import Recipe
from framework.recipe.growth import Segment, remaining
from framework.runtime.health import Collapse, FiniteGuard
from framework.runtime.launchers import launcher_to_watch
from framework.runtime.session import Session
from framework.runtime.signals import StopVote
from framework.runtime.stopping import end_on_signals
from framework.runtime.straggling import StepTimer, Stragglers
from framework.runtime.watchdog import Watchdog
from framework.tracking import NullTracker, Tracker
from framework.tracking.records import JOURNAL_NAME, last_start
from framework.tracking.system import SystemSampler
from framework.train.config import RunConfig
from framework.train.console import Status, short
from framework.train.evaluation import Evaluator, open_evaluator
from framework.train.folder import RunContext, check_data, check_science, draws_version, run_folder
from framework.train.frames import GameRecorder, write_game_page
from framework.train.health import HealthMonitor, answer
from framework.train.loop import Outcome, Window, train
from framework.train.memory import MicroBatching, fitting_micro_batches, kept_micro_batches
from framework.train.periodic import PeriodicTasks
from framework.train.players import Players, build_players, grow_to, initialise_from, release
from framework.train.reporting import Reporter
from framework.train.samples import SampleGrids
from framework.train.saving import RunRecord, Saver
from framework.train.sources import open_held_out
from framework.train.tracking import introduce, journal_is_closed, log_generator, open_tracker
from framework.train.watchdog import awaited, watching
from framework.utils.quantities import format_count


def play(
    this: RunContext, players: Players, tasks: PeriodicTasks, stop: StopVote, *, images_seen: int
) -> tuple[Outcome, int]:
    """Train from `images_seen` until the run ends or a signal arrives.

    Returns:
        Why it ended, and the clock (real images seen).

    Raises:
        Collapse: training has collapsed, and the run was not told to go back, or cannot.
    """
    while True:
        try:
            return _segments(this, players, tasks, stop, images_seen=images_seen)
        except Collapse as collapse:
            images_seen = _go_back(this, players, tasks, collapse)


def _segments(
    this: RunContext, players: Players, tasks: PeriodicTasks, stop: StopVote, *, images_seen: int
) -> tuple[Outcome, int]:
    """Play the segments that are left; returns why it ended and the clock."""
    outcome: Outcome = "finished"
    for segment, end in remaining(this.recipe.segments(), start=images_seen, end=this.recipe.images):
        outcome, images_seen = _segment(this, segment, players, tasks, stop, images_seen=images_seen, end=end)
        if outcome == "stopped":
            break
    return outcome, images_seen


def _go_back(this: RunContext, players: Players, tasks: PeriodicTasks, collapse: Collapse) -> int:
    """Go back to the newest checkpoint from before the collapse; returns the clock there (a collective)."""
    # The newest sound checkpoint may still be on its way to the disk.
    tasks.progress.beat("going back to a sound checkpoint", long=True)
    tasks.saver.settle()
    checkpoint, recovery = answer(
        collapse,
        tasks.record.recovery,
        on_collapse=this.config.on_collapse,
        most=this.config.most_rollbacks,
        folder=this.folder,
        session=this.session,
    )
    # Put back tensors, shapes and small states.
    players.state.restore(checkpoint)
    grow_to(players.players, this.recipe.segments(), images_seen=checkpoint.images_seen)
    tasks.go_back(checkpoint, recovery)
    return checkpoint.images_seen


def _segment(
    this: RunContext,
    segment: Segment,
    players: Players,
    tasks: PeriodicTasks,
    stop: StopVote,
    *,
    images_seen: int,
    end: int,
) -> tuple[Outcome, int]:
    """Train on one segment of the clock, from `images_seen` to `end`; returns why it ended and the clock."""
    recipe, config, session = this.recipe, this.config, this.session
    growth, record, progress = recipe.growth, tasks.record, tasks.progress
    # New layers begin with a new optimiser, where the recipe says so.
    if growth and growth.reset_optimizer and images_seen == segment.start > 0:
        for player in players.players.values():
            forget_moments(player)
    # This segment's data, from the clock on, at its resolution.
    micro_batches = _micro_batches(this, segment, tasks)
    share = {"micro_batches": micro_batches, "rank": session.rank, "world": session.world}
    with ExitStack() as stack:
        stream, shift = this.stream(segment.resolution), record.recovery.shift_images
        batches = stack.enter_context(stream.batches(images_seen + shift, batch_size=segment.batch_size, **share))
        keys = this.folder.path / "keys"
        progress.details = awaited(stream, progress, shift_images=shift, batch_size=segment.batch_size, **share)
        # Play to the end of the segment.
        tasks.reporter.phase = str(segment) if growth else "train"
        outcome, images_seen = train(
            players.game(record.recovery.slowed(segment), **share),
            recorded(batches, folder=keys, rank=session.rank) if config.record_keys else batches,
            images_seen=images_seen,
            total_images=end,
            seed=recipe.seed,
            tasks=tasks.table(
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
        tasks.finish_phase(images_seen)
    return outcome, images_seen


def _micro_batches(this: RunContext, segment: Segment, tasks: PeriodicTasks) -> int:
    """Return the number of micro-batches in a segment, and keep it for checkpoints (a collective)."""
    recipe, config, session, record = this.recipe, this.config, this.session, tasks.record
    if config.auto_micro_batch:
        micro_batches = fitting_micro_batches(recipe, segment, config, session=session)
    else:
        micro_batches, why = kept_micro_batches(
            recipe, segment, config, world=session.world, before=record.micro_batching
        )
        if why:
            tasks.reporter.status.say(why)
    if record.micro_batching is None or session.world >= record.micro_batching.world:
        record.micro_batching = MicroBatching(world=session.world, micro_batches=micro_batches)
    return micro_batches


NUM_REALS_LOOKED_AT = 600
"""The number of real images that show how diverse the data is, and of which a grid is drawn."""
RESUMES = "; the same command resumes"


def run(recipe: Recipe, config: RunConfig, *, session: Session, data: str) -> Outcome:
    """Train `recipe` in its run folder, from the newest valid checkpoint if there is one.

    Args:
        data: location of the shards on this machine.

    Returns:
        Whether the run has finished or was stopped by a signal.

    Raises:
        FrameworkError: something the user can mend; the newest checkpoint is intact.
    """
    # Refuse what could not work, before anything is opened.
    folder = run_folder(recipe, config)
    this = RunContext(recipe=recipe, config=config, session=session, folder=folder, data=data)
    for side, player in recipe.players.items():
        check(
            player.engine or config.engine,
            player,
            side=side,
            device=session.device,
            precision=config.precision,
            world=session.world,
        )
    # Where the run stands: new, to be resumed, of another recipe, or finished.
    checkpoint = folder.newest_checkpoint(session)
    if checkpoint is None:
        folder.refuse_another_recipe(recipe, session)
    else:
        check_science(recipe, checkpoint, allow_change=config.allow_change)
        draws_version(checkpoint)
        if checkpoint.images_seen >= recipe.images:
            if session.is_main:
                _already_finished(this, checkpoint)
            return "finished"
    # Train, and close the journal whatever happens.
    tracker = open_tracker(recipe, config, folder) if session.is_main else NullTracker()
    ended = "FAILED"
    with ExitStack() as stack:
        try:
            outcome, images, status = _train(this, checkpoint, tracker, stack)
            ended = "FINISHED" if outcome == "finished" else "KILLED"
        finally:
            left = tracker.finish(ended)
        # Say how it ended and where everything is.
        if session.is_main:
            status.say(f"{outcome} at {format_count(images)} images{RESUMES if outcome == 'stopped' else ''}")
            status.say(_where(this, images))
            if left:
                status.say(left)
    return outcome


def _train(
    this: RunContext, checkpoint: Checkpoint | None, tracker: Tracker | NullTracker, stack: ExitStack
) -> tuple[Outcome, int, Status]:
    recipe, config, session = this.recipe, this.config, this.session
    # Open the watchdog, the data and the players.
    stacks = this.folder.path / "stalls"
    watchdog = stack.enter_context(watching(session, stall_seconds=config.stall_seconds, folder=stacks))
    stream = this.stream(recipe.data.resolution)
    if session.is_main:
        this.folder.prepare(recipe)
    players = build_players(recipe, config, session=session, stack=stack, draws_version=draws_version(checkpoint))
    # Restore a checkpoint, or begin with the weights of another run.
    start, guard = 0, FiniteGuard(most_in_a_row=config.most_skipped_steps)
    if checkpoint:
        check_data(stream, checkpoint, allow_change=config.allow_change)
        players.state.restore(checkpoint)
        start = checkpoint.images_seen
    elif config.init_from is not None:
        initialise_from(config.init_from, players.state)
    # Prepare what is done periodically, and what comes before the first step.
    tasks = _tasks(this, stream, players, guard, tracker, watchdog, checkpoint, stack)
    if checkpoint:
        tasks.record.restore(checkpoint)
    _begin(this, tasks, stream, players, checkpoint)
    # Play; from here on a signal is heard at the end of a step.
    end_on_signals()  # also after training: nothing is left to mark
    stop = stack.enter_context(StopVote(world=session.world, launcher=launcher_to_watch()).listening())
    outcome, images = play(this, players, tasks, stop, images_seen=start)
    stop.close()
    # End: whatever is due, the last checkpoint, and a marker if the run is to be continued.
    watchdog.progress.beat("the end of the run", long=True)
    tasks.finish(images)
    if session.is_main and outcome == "stopped":
        this.folder.mark_preempted(images)
    return outcome, images, tasks.reporter.status


def _already_finished(this: RunContext, checkpoint: Checkpoint) -> None:
    """Say that there is nothing left to train, and close a journal that was left open."""
    this.folder.preempted.unlink(missing_ok=True)
    print(f"already finished: {format_count(checkpoint.images_seen)} images seen. Train longer with --images.")
    if not journal_is_closed(this.folder):  # the launch that finished was killed before it could say so
        tracker = open_tracker(this.recipe, this.config, this.folder)
        log_generator(tracker, checkpoint.path, this.recipe)
        write_game_page(this.folder.path, tracker)
        if left := tracker.finish("FINISHED"):
            print(left)
    print(_where(this, checkpoint.images_seen))


def _tasks(
    this: RunContext,
    stream: SampleStream,
    players: Players,
    guard: FiniteGuard,
    tracker: Tracker | NullTracker,
    watchdog: Watchdog,
    checkpoint: Checkpoint | None,
    stack: ExitStack,
) -> PeriodicTasks:
    """Open everything that periodic work needs; what must be closed is closed with `stack` (a collective)."""
    recipe, config, session, folder = this.recipe, this.config, this.session, this.folder
    start = checkpoint.images_seen if checkpoint else 0
    held_out = open_held_out(recipe, config)
    status = Status(name=recipe.name, images_seen=start, total=recipe.images, quiet=not session.is_main)
    evaluator = open_evaluator(
        this,
        network=players.players[recipe.game.averaged[0]].network,
        average=players.average,
        held_out=held_out,
        checkpoint=checkpoint,
        tracker=tracker,
        status=status,
        progress=watchdog.progress,
    )
    writer = stack.enter_context(_writer(this, evaluator))
    stack.enter_context(status)
    record = RunRecord(
        session=session,
        recipe=recipe,
        state=players.state,
        stream=stream,
        window=Window(timer=StepTimer(session.device)),
        guard=guard,
        health_monitor=HealthMonitor(
            recipe, state=players.state, average=players.average, session=session, on_collapse=config.on_collapse
        ),
        draws_version=players.draws_version,
        evaluator=evaluator,
    )
    saver = Saver(record=record, writer=writer, folder=folder.checkpoints, tracker=tracker, status=status)
    reporter = Reporter(
        record=record,
        saver=saver,
        tracker=tracker,
        status=status,
        system=SystemSampler(folder.path),
        watchdog=watchdog,
        stragglers=Stragglers(session.gather_names(socket.gethostname())),
    )
    looked_at = held_out.rows(range(min(held_out.count, COLUMNS))) if held_out else {}
    return PeriodicTasks(
        record=record,
        reporter=reporter,
        saver=saver,
        grids=_grids(this, stream, players, tracker, held_out=looked_at),
        game=_recorder(this, players),
        progress=watchdog.progress,
    )


def _grids(
    this: RunContext,
    stream: SampleStream,
    players: Players,
    tracker: Tracker | NullTracker,
    *,
    held_out: Mapping[str, Tensor],
) -> SampleGrids:
    """Return what draws samples of the average; of held-out samples it is given the first few."""
    return SampleGrids(
        recipe=this.recipe,
        average=players.average,
        session=this.session,
        tracker=tracker,
        class_names=stream.class_names,
        held_out=held_out,
    )


def _recorder(this: RunContext, players: Players) -> GameRecorder:
    """Return what records a game of points; a run that is to show nothing is not recorded."""
    wanted = this.config.sample_every_images > 0
    return GameRecorder(
        recipe=this.recipe, players=players.players, session=this.session, folder=this.folder.path, wanted=wanted
    )


def _writer(this: RunContext, evaluator: Evaluator | None) -> Writer:
    """Return the writer of the run's checkpoints, which knows by which scores the best are kept (a collective)."""
    config, session = this.config, this.session
    return Writer(
        this.folder.checkpoints,
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


def _begin(
    this: RunContext, tasks: PeriodicTasks, stream: SampleStream, players: Players, checkpoint: Checkpoint | None
) -> None:
    """Do what comes before the first step: say what is trained, look at the data, draw and save the beginning."""
    start = checkpoint.images_seen if checkpoint else 0
    session, config = this.session, this.config
    tracker, say = tasks.reporter.tracker, tasks.reporter.status.say
    # Say what is trained, in the tracker and on the screen.
    if isinstance(tracker, Tracker):
        introduce(tracker, this.recipe, config, this.folder, stream)
        this.folder.preempted.unlink(missing_ok=True)
    say(f"{this.recipe.name}: {this.recipe.paper}")
    say(
        f"{stream.count:,} images, {session.world} process(es) on {session.device.type}, engine {config.engine}, "
        f"{config.precision}, global batch {this.recipe.batch_size}"
    )
    grow_to(players.players, this.recipe.segments(), images_seen=start)
    if checkpoint:
        say(f"resumed at {format_count(start)} images")
        tracker.resumed(images_seen=start)
    else:
        say("new run")
    # Look at real samples, unless the checkpoint says how diverse they are; plots show them at every start.
    reals, game = None, this.recipe.game
    assert isinstance(game, Game)
    if not tasks.record.health_monitor.knows_the_data or game.real_picture(this.recipe) is None:
        if session.is_main:
            count = min(stream.count, NUM_REALS_LOOKED_AT)
            with stream.batches(0, batch_size=count, stop=count) as batches:
                batch = next(batches)
            reals = tasks.grids.reals = batch.fields
            tasks.grids.show_reals(reals)
        tasks.record.health_monitor.measure_real_data(reals)
    tasks.game.begin(reals, images_seen=start, is_new=checkpoint is None)
    # The beginning of a new run.
    if checkpoint:
        return
    tasks.sample(0)  # MLflow's image slider opens at the first step
    if config.on_collapse == "rollback":
        tasks.saver.save(0)  # in the beginning there is nothing else to go back to


def _where(this: RunContext, images_seen: int) -> str:
    """Return where samples, checkpoint and review are, one a line."""
    folder = this.folder
    grids = sorted((folder.path / "samples").glob("ema-*.png"))
    lines = {
        "samples": short(grids[-1]) if grids else "none yet",
        "checkpoint": short(folder.checkpoints / str(images_seen)),
    }
    if last_start(this.folder.path / JOURNAL_NAME, missing_ok=True).get("uri"):
        lines["review in MLflow"] = shlex.join(
            [short(Path(sys.executable).parent / "framework"), "review", short(folder.path)]
        )
    return "\n".join(f"  {name}: {text}" for name, text in lines.items())
