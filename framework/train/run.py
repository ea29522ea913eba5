"""One run from its folder to its end: restore, open the data, play, save, say where everything is."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path

import torch

from framework.checkpoint import Checkpoint, Retention, Writer
from framework.data.stream import Stream, open_stream
from framework.describe import describe, leaves, science_hash
from framework.engines.averaging import Average
from framework.engines.base import Engine
from framework.engines.choose import build_engine, check
from framework.games.alternating import Alternating, AlternatingGame
from framework.games.share import BatchShare
from framework.quantities import format_count
from framework.recipe import Recipe
from framework.runtime.health import FiniteGuard
from framework.runtime.seeding import seed_torch
from framework.runtime.session import Session
from framework.runtime.signals import StopVote
from framework.tracking import NullTracker, Tracker
from framework.tracking.system import SystemSampler, git_revision
from framework.train.audit import recorded
from framework.train.config import RunConfig
from framework.train.console import Status
from framework.train.duties import Duties
from framework.train.folder import ResumeError, RunFolder, check_science
from framework.train.loop import Outcome, Window, train
from framework.train.state import TrainingState

log = logging.getLogger("framework")
SIDES = ("generator", "discriminator")


def run(recipe: Recipe, config: RunConfig, *, session: Session, data: str) -> Outcome:
    """Train `recipe` in its run folder, from the newest valid checkpoint if there is one.

    Args:
        data: location of the shards on this machine.

    Raises:
        FrameworkError: something the user can mend; the newest checkpoint is intact.
    """
    folder = RunFolder(path=(config.out or Path("runs") / recipe.name).resolve())
    for side in SIDES:
        engine = getattr(recipe, side).engine or config.engine
        check(engine, side=side, device=session.device, precision=config.precision)
    checkpoint = folder.newest_checkpoint(session)
    if checkpoint:
        check_science(recipe, checkpoint, allow_change=config.allow_change)
        if checkpoint.images >= recipe.images:
            if session.is_main:
                print(f"already finished: {format_count(checkpoint.images)} images seen. Train longer with --images.")
                print(_where(folder, checkpoint.images, config))
            return "finished"
    if session.is_main:
        folder.prepare(recipe)
    with ExitStack() as stack:
        return _play(recipe, config, session, data, folder, checkpoint, stack)


def _play(
    recipe: Recipe,
    config: RunConfig,
    session: Session,
    data: str,
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    stack: ExitStack,
) -> Outcome:
    assert isinstance(recipe.game, Alternating)
    stream = _open_stream(recipe, config, data, session.device)
    players = {side: _engine(recipe, side, config, session) for side in SIDES}
    for engine in players.values():
        stack.callback(engine.close)
    average = Average(players["generator"])
    state = TrainingState(players=players, averages={"generator": average})
    start, guard = 0, FiniteGuard(most_in_a_row=config.most_skipped_steps)
    if checkpoint:
        state.restore(checkpoint)
        start, guard.skipped_steps = checkpoint.images, checkpoint.record["skipped_steps"]
        _check_data(stream, checkpoint, allow_change=config.allow_change)
    share = BatchShare(
        batch_size=recipe.batch_size, micro_batches=config.micro_batches, rank=session.rank, world=session.world
    )
    game = AlternatingGame(
        recipe.game,
        generator=players["generator"],
        discriminator=players["discriminator"],
        average=average,
        recipe=recipe,
        share=share,
    )
    writer = Writer(
        folder.checkpoints,
        rank=session.rank,
        world=session.world,
        token=session.broadcast_text(uuid.uuid4().hex[:12]),
        retention=Retention(last=config.keep_last, every_images=config.keep_every_images),
    )
    stack.callback(writer.close)
    tracker = _open_tracker(recipe, config, folder, stream) if session.is_main else NullTracker()
    status = stack.enter_context(Status(name=recipe.name, images=start, total=recipe.images, quiet=not session.is_main))
    duties = Duties(
        session=session,
        recipe=recipe,
        state=state,
        average=average,
        stream=stream,
        window=Window(),
        guard=guard,
        tracker=tracker,
        writer=writer,
        checkpoints=folder.checkpoints,
        status=status,
        system=SystemSampler(folder.path),
    )
    _greet(recipe, config, session, stream, status, start)
    if checkpoint:
        tracker.resumed(images=start)
    elif session.is_main:
        _show_reals(duties, stream)
    ended = "FAILED"
    try:
        stop = stack.enter_context(StopVote(world=session.world).listening())
        batches = stack.enter_context(
            stream.batches(
                start,
                batch_size=recipe.batch_size,
                micro_batches=config.micro_batches,
                rank=session.rank,
                world=session.world,
            )
        )
        outcome, images = train(
            game,
            recorded(iter(batches), folder=folder.path / "keys", rank=session.rank)
            if config.record_keys
            else iter(batches),
            images=start,
            total_images=recipe.images,
            seed=recipe.seed,
            duties=duties.table(
                log_every_images=config.log_every_images,
                sample_every_images=config.sample_every_images,
                save_every_images=config.save_every_images,
            ),
            window=duties.window,
            guard=guard,
            stop=stop,
        )
        stop.close()
        duties.finish(images)
        ended = "FINISHED" if outcome == "finished" else "KILLED"
    finally:
        left = tracker.finish(ended)
    if session.is_main:
        _say_goodbye(folder, config, status, outcome, images, left)
    return outcome


def _open_stream(recipe: Recipe, config: RunConfig, data: str, device: torch.device) -> Stream:
    return open_stream(
        data,
        resolution=recipe.data.resolution,
        channels=recipe.data.channels,
        classes=recipe.data.classes,
        seed=recipe.seed,
        flip=recipe.data.flip,
        window=recipe.data.window,
        cache_folder=config.cache_folder,
        cache_bytes=int(config.cache_gb * 1e9),
        on_bad_sample=config.on_bad_sample,
        workers=config.workers,
        pin_memory=device.type == "cuda",
    )


def _engine(recipe: Recipe, side: str, config: RunConfig, session: Session) -> Engine:
    seed_torch(recipe.seed, "initialisation", side)
    network = recipe.build_network(side).to(session.device)
    return build_engine(network, getattr(recipe, side), side=side, engine=config.engine, precision=config.precision)


def _check_data(stream: Stream, checkpoint: Checkpoint, *, allow_change: bool) -> None:
    before = checkpoint.record["data"]
    if before["fingerprint"] == stream.fingerprint:
        return
    message = (
        f"the data changed: the checkpoint was trained on {before['count']:,} images with fingerprint "
        f"{before['fingerprint'][:12]}, these shards hold {stream.count:,} with {stream.fingerprint[:12]}"
    )
    if not allow_change:
        raise ResumeError(f"{message}. Point --data to the original shards, or use --allow-change.")
    log.warning("%s; continuing", message)


def tracking_uri(config: RunConfig, folder: RunFolder) -> str | None:
    """The MLflow URI of a run: as told, none, or an SQLite database beside the run folder."""
    if config.tracking == "none":
        return None
    if config.tracking == "default":
        return f"sqlite:///{folder.path.parent / 'mlflow.db'}"
    return config.tracking


def _open_tracker(recipe: Recipe, config: RunConfig, folder: RunFolder, stream: Stream) -> Tracker:
    tracker = Tracker.open(
        folder.path,
        uri=tracking_uri(config, folder),
        experiment=config.experiment or recipe.name,
        run_name=config.run_name or folder.path.name,
    )
    headline = {path: value for path, value in leaves(describe(recipe)) if value is not None}
    tracker.params(headline | {"engine": config.engine, "precision": config.precision})
    revision = git_revision(Path(__file__).parent)
    tracker.tags(
        {
            "framework.recipe": recipe.name,
            "framework.science_hash": science_hash(recipe),
            "framework.data_fingerprint": stream.fingerprint,
            "framework.command": shlex.join(sys.argv),
            "framework.git_commit": (revision["commit"] + ("-dirty" if revision["dirty"] else ""))
            if revision
            else "none",
        }
    )
    tracker.note(f"**{recipe.name}**: {recipe.paper}\n\n`{shlex.join(sys.argv)}`")
    tracker.artifact(folder.recipe)
    return tracker


def _greet(recipe: Recipe, config: RunConfig, session: Session, stream: Stream, status: Status, start: int) -> None:
    status.say(f"{recipe.name}: {recipe.paper}")
    status.say(
        f"{stream.count:,} images, {session.world} process(es) on {session.device.type}, engine {config.engine}, "
        f"{config.precision}, global batch {recipe.batch_size}"
    )
    status.say(f"resumed at {format_count(start)} images" if start else "new run")


def _show_reals(duties: Duties, stream: Stream) -> None:
    count = min(stream.count, 600)
    with stream.batches(0, batch_size=count, stop=count) as batches:
        batch = next(iter(batches))
    duties.show_reals(batch.images, batch.labels)


def _say_goodbye(
    folder: RunFolder, config: RunConfig, status: Status, outcome: Outcome, images: int, left: str | None
) -> None:
    if outcome == "stopped":
        folder.preempted.write_text(f"stopped by a signal after {images} images; the same command resumes\n")
        status.say(f"stopped at {format_count(images)} images; the same command resumes")
    else:
        status.say(f"finished at {format_count(images)} images")
    status.say(_where(folder, images, config))
    if left:
        status.say(left)


def _where(folder: RunFolder, images: int, config: RunConfig) -> str:
    grids = sorted((folder.path / "samples").glob("ema-*.png"))
    lines = {
        "samples": _short(grids[-1]) if grids else "none yet",
        "checkpoint": _short(folder.checkpoints / str(images)),
    }
    if config.tracking != "none":
        lines["review in MLflow"] = f"{Path(sys.executable).parent / 'framework'} review {_short(folder.path)}"
    return "\n".join(f"  {name}: {text}" for name, text in lines.items())


def _short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
