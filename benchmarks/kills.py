"""Kills at random moments against undisturbed runs: the same bits, the same samples, no point lost or doubled.

A course is one run folder and one command. The command is started, killed and started again until the course has had
its kills, and then runs to its end. What dies is drawn at random: the launcher with all its processes, one rank alone,
the launcher alone (its ranks must then end by themselves), or everything after one rank had been frozen by SIGSTOP. So
is the moment: during start-up, at a random step, while a checkpoint is being written, or just after one has appeared,
when older ones are deleted.

With one number of processes (`--worlds 2`), the last checkpoint must equal an undisturbed run's to the bit. With
several (`--worlds 1,2`), each launch draws how many processes it has; the last checkpoint may then differ by rounding,
and the bound is three times what undisturbed runs on these numbers of processes differ by among themselves. Every
position of the data must have had the same sample, and the journal's points, brought into MLflow by `framework sync`,
must be those of the undisturbed run, each once; to the bit where the weights are.

    python -m benchmarks.kills [--kills 100] [--per-course 10] [--worlds 2] [--seed 1] [--json]
"""

from __future__ import annotations

import collections
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.report import command_line, show
from framework.checkpoint import list_checkpoints
from framework.data.consumed import consumed
from framework.data.pack import pack
from framework.tracking.records import JOURNAL_NAME, last_start
from tests.helpers.launch import ROOT, SMOOTH, TINY, Launch, environment, largest_difference, tensors, unequal
from tests.helpers.mlflow_store import Database

BATCH, STEPS, SAVE_EVERY, LOG_EVERY = 16, 120, 8, 5
PATIENCE_SECONDS = 300.0
ENDING_SECONDS = 60.0
"""After a kill, the processes left over must have ended."""

Victim = Literal["everything", "one rank", "launcher", "frozen, then everything"]
Moment = Literal["start-up", "a step", "inside a save", "after a save"]
SCIENCE = ("loss/", "grad_norm/", "logit/")
"""Metrics that depend on nothing but the course of training."""


@dataclass(frozen=True)
class Kill:
    """One kill as it happened."""

    victim: Victim
    moment: Moment
    world: int
    step: int
    """The step that rank 0 had taken its samples for."""
    repeated: int
    """Steps since the newest checkpoint, which the next launch does again."""


@dataclass(frozen=True)
class Game:
    """What all runs train."""

    recipe: Path
    data: Path
    worlds: tuple[int, ...]
    """Numbers of processes that a launch may have."""

    def flags(self, out: Path) -> list[str]:
        """The command line of every launch."""
        clock = {"images": STEPS, "save-every-images": SAVE_EVERY, "log-every-images": LOG_EVERY}
        counts = [text for name, steps in clock.items() for text in (f"--{name}", str(steps * BATCH))]
        kept = ["--keep-last", "2", "--record-keys", "--tracking", "none"]
        return [*counts, "--data", str(self.data), *kept, "--out", str(out)]

    @staticmethod
    def of(worlds: tuple[int, ...], *, folder: Path) -> Game:
        """A tiny SAGAN on one number of processes; players without kinks where rounding must stay small."""
        data = ROOT / "recipes/data/fashion_mnist"
        if len(worlds) == 1:
            return Game(recipe=TINY, data=data, worlds=worlds)
        pack(data, folder / "fashion8", resolution=8, resize_filter="box", progress=False)
        return Game(recipe=SMOOTH, data=folder / "fashion8", worlds=worlds)


@dataclass
class Course:
    """A run folder that is killed again and again."""

    folder: Path
    game: Game
    seed: int
    startup_seconds: float
    """How long a launch takes until its first step; kills during start-up fall within it."""
    done: list[Kill] = field(default_factory=list)
    launches: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    @property
    def out(self) -> Path:
        """The run folder."""
        return self.folder / "run"

    def play(self, *, kills: int) -> None:
        """Kill until there were so many kills, then let it end.

        Raises:
            AssertionError: a launch neither trained nor ended, or processes outlived their kill.
        """
        while len(self.done) < kills and self._killed_launch():
            pass
        with self._launch() as last:
            assert last.wait(timeout_seconds=PATIENCE_SECONDS) == 0, last.text()

    def _launch(self) -> Launch:
        self.launches += 1
        self._world = self._chance.choice(self.game.worlds)
        log = self.folder / f"launch-{self.launches:03d}.log"
        return Launch(self.game.recipe, *self.game.flags(self.out), world=self._world, log=log)

    def _killed_launch(self) -> bool:
        """Start and kill; False where the run ended before its kill came."""
        with self._launch() as launch:
            moment: Moment = self._chance.choice(["start-up", "a step", "a step", "inside a save", "after a save"])
            if not self._wait(launch, moment):
                assert launch.process.wait() == 0, launch.text()
                return False
            step = step_of(self.out)
            victim = self._strike(launch)
            checkpoints = list_checkpoints(self.out / "checkpoints")
            repeated = max(0, step - (checkpoints[-1] // BATCH if checkpoints else 0))
            self.done.append(Kill(victim=victim, moment=moment, world=self._world, step=step, repeated=repeated))
        return True

    def _wait(self, launch: Launch, moment: Moment) -> bool:
        """Wait for the moment; False where the launch ended before."""
        begun, seconds = time.monotonic(), self._chance.uniform(0.0, self.startup_seconds)
        checkpoints = self.out / "checkpoints"
        before = list_checkpoints(checkpoints)
        goal = (before[-1] if before else 0) // BATCH + self._chance.randint(1, 2 * SAVE_EVERY)

        def has_come() -> bool:
            if moment == "start-up":
                return time.monotonic() - begun >= seconds
            if moment == "a step":
                return step_of(self.out) >= min(goal, STEPS)
            if moment == "inside a save":
                return any(checkpoints.glob(".*.tmp/*"))
            return list_checkpoints(checkpoints) > before

        while not has_come():
            if launch.process.poll() is not None:
                return False
            assert time.monotonic() - begun < PATIENCE_SECONDS, f"{moment}: never came\n{launch.text()}"
            time.sleep(0.002)
        return launch.process.poll() is None

    def _strike(self, launch: Launch) -> Victim:
        """Kill somebody and wait until all processes of the launch have ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            launcher = psutil.Process(launch.process.pid)
            family = [launcher, *launcher.children(recursive=True)]
            ranks = launch.workers() if self._world > 1 else []
            victim: Victim = "everything"
            if ranks:
                victim = self._chance.choice(["everything", "one rank", "launcher", "frozen, then everything"])
            if victim == "one rank":
                psutil.Process(self._chance.choice(ranks)).kill()
            elif victim == "launcher":
                launcher.kill()
            else:
                if victim == "frozen, then everything":
                    psutil.Process(self._chance.choice(ranks)).suspend()
                    time.sleep(0.3)
                launch.kill()
            _, alive = psutil.wait_procs(family, timeout=ENDING_SECONDS)
            assert not alive, f"{victim} killed, but {alive} live on\n{launch.text()}"
            return victim
        raise AssertionError(f"the launch ended while it was to be killed\n{launch.text()}")


def has_begun(out: Path) -> bool:
    """Whether rank 0 has taken the samples of its first step."""
    return step_of(out) >= 1


def step_of(out: Path) -> int:
    """The step for which rank 0 took its samples last; 0 before the first."""
    try:
        lines = (out / "keys" / "rank-00000.txt").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return int(lines[-1].split()[0]) // BATCH + 1 if lines else 0


def points(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Every (images, value) that MLflow holds of the run's science after a `framework sync`, repeats included."""
    database = Database(out.parent / f"{out.name}.db")
    command = [sys.executable, "-m", "framework", "sync", str(out), "--uri", database.uri]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run_id = database.run_id(last_start(out / JOURNAL_NAME)["uid"])
    rows = database.query("SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step", run_id)
    found: dict[str, list[tuple[int, float]]] = collections.defaultdict(list)
    for key, step, value in rows:
        if key.startswith(SCIENCE):
            found[key].append((step, value))
    return found


@dataclass(frozen=True)
class Undisturbed:
    """Runs without a kill, one for each number of processes."""

    outs: dict[int, Path]
    bound: float
    """Largest difference that a course's last checkpoint may have; 0.0: to the bit."""
    startup_seconds: float

    @staticmethod
    def played(game: Game, *, folder: Path) -> Undisturbed:
        """Train to the end on each number of processes."""
        outs, startup = {}, 0.0
        for world in game.worlds:
            outs[world] = folder / f"undisturbed-{world}"
            begun = time.monotonic()
            log = folder / f"undisturbed-{world}.log"
            with Launch(game.recipe, *game.flags(outs[world]), world=world, log=log) as launch:
                launch.until(partial(has_begun, outs[world]))
                startup = max(startup, time.monotonic() - begun)
                assert launch.wait(timeout_seconds=PATIENCE_SECONDS) == 0, launch.text()
        first, *others = (last_checkpoint(out) for out in outs.values())
        apart = max((largest_difference(first, other) for other in others), default=0.0)
        return Undisturbed(outs=outs, bound=3.0 * apart, startup_seconds=startup)


def last_checkpoint(out: Path) -> Path:
    """The folder of the checkpoint at the end of a run."""
    return out / "checkpoints" / str(STEPS * BATCH)


def judged(course: Course, undisturbed: Undisturbed) -> dict[str, Any]:
    """Compare a finished course with undisturbed runs.

    Raises:
        AssertionError: another weight, another sample, or a point lost, doubled or changed.
    """
    out, expected = course.out, next(iter(undisturbed.outs.values()))
    a, b = last_checkpoint(expected), last_checkpoint(out)
    exact = undisturbed.bound == 0.0
    difference = largest_difference(a, b)
    assert difference <= undisturbed.bound, f"{b} differs from {a} by {difference}"
    assert not (exact and unequal(a, b))
    keys = [
        {position: key for position, key in consumed(folder / "keys").items() if position < STEPS * BATCH}
        for folder in (expected, out)
    ]
    assert keys[0] == keys[1], "other samples were consumed"
    wanted, found = points(expected), points(out)
    steps = {name: [step for step, _ in values] for name, values in wanted.items()}
    assert steps == {name: [step for step, _ in values] for name, values in found.items()}, "points lost or doubled"
    if exact:
        assert wanted == found, "points have other values"
    return {
        "kills": len(course.done),
        "launches": course.launches,
        "tensors": len(tensors(b)),
        "largest_difference": difference,
        "bound": undisturbed.bound,
        "points": sum(map(len, found.values())),
    }


def campaign(
    folder: Path, *, kills: int, per_course: int, worlds: tuple[int, ...], seed: int, console: Console
) -> dict[str, Any]:
    """Courses until there were so many kills; the figures of all of them.

    Raises:
        AssertionError: a course did not end as undisturbed runs do.
    """
    game = Game.of(worlds, folder=folder)
    undisturbed = Undisturbed.played(game, folder=folder)
    courses: list[dict[str, Any]] = []
    happened: list[Kill] = []
    while len(happened) < kills:
        number = len(courses)
        course = Course(
            folder=folder / f"course-{number:02d}",
            game=game,
            seed=seed * 1000 + number,
            startup_seconds=undisturbed.startup_seconds,
        )
        course.folder.mkdir()
        course.play(kills=min(per_course, kills - len(happened)))
        courses.append(judged(course, undisturbed))
        happened += course.done
        console.print(f"course {number}: {courses[-1]}")
        assert course.done, "the run ended before any kill came"
    return {
        "worlds": list(worlds),
        "kills": len(happened),
        "launches": sum(course["launches"] for course in courses),
        "by_victim": dict(collections.Counter(kill.victim for kill in happened)),
        "by_moment": dict(collections.Counter(kill.moment for kill in happened)),
        "by_world": dict(collections.Counter(str(kill.world) for kill in happened)),
        "steps_repeated_most": max(kill.repeated for kill in happened),
        "largest_difference": max(course["largest_difference"] for course in courses),
        "bound": undisturbed.bound,
        "tensors": courses[-1]["tensors"],
        "points_per_course": courses[-1]["points"],
        "courses": len(courses),
    }


def main() -> None:
    """Run as the module's text says."""
    parser = command_line(__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--per-course", type=int, default=10)
    parser.add_argument("--worlds", default="2", help="numbers of processes, for example 2 or 1,2")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    worlds = tuple(int(world) for world in asked.worlds.split(","))
    with tempfile.TemporaryDirectory() as folder:
        figures = campaign(
            Path(folder),
            kills=asked.kills,
            per_course=asked.per_course,
            worlds=worlds,
            seed=asked.seed,
            console=Console(stderr=True),
        )
    table = Table("", "", title=f"{figures['kills']} kills")
    for name, value in figures.items():
        table.add_row(name, str(value))
    show(figures, table, as_json=asked.json)


if __name__ == "__main__":
    main()
