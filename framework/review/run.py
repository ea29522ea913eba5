"""A run folder as the report needs it, from journal, checkpoints and recipe as far as they can be read.

Nothing here may fail on a damaged file: what cannot be read is left out and becomes a note on the page.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.media.recording import Recording
from framework.tracking.checkpoints import (
    KeptCheckpoint,
    Score,
    checkpoint_paths,
    missing_from,
    read_checkpoint,
    read_score_file,
    score_from_chart,
    scores_from,
)
from framework.tracking.frames import read_recording
from framework.tracking.lock import WRITER_LOCK_NAME, writer_is_alive
from framework.tracking.records import FIGURES, HEALTH_STATES, JOURNAL_NAME, Record, read_journal
from framework.utils.aliases import todays
from framework.utils.bounded import is_count, read_object
from framework.utils.errors import FrameworkError

RECIPE_NAME = "recipe.json"
STATES = {"FINISHED": "finished", "KILLED": "stopped", "FAILED": "failed"}
PAGE_FORMS = {"sounds", "page"}
_REAL = "samples/real"


@dataclass(kw_only=True)
class Series:
    """One metric over images seen; `nonfinite` are the clocks at which it was NaN or infinite."""

    points: dict[int, float] = field(default_factory=dict)
    nonfinite: list[int] = field(default_factory=list)


@dataclass(kw_only=True)
class Launch:
    """One start of the training command; `state` is empty until its end is recorded."""

    number: int
    started_ms: int
    last_ms: int
    host: str = ""
    from_images: int = 0
    state: str = ""


@dataclass(frozen=True, kw_only=True)
class Health:
    """A sentinel's state at a clock; `state` is ok, warn or failing."""

    images: int
    sentinel: str
    state: str
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A file that shows something at a clock; `form` is pictures, plot, sounds or page."""

    path: Path
    form: str
    description: str = ""


@dataclass(kw_only=True)
class Run:
    """All that the page shows of one run."""

    folder: Path
    name: str
    state: str = "unknown"
    recipe: dict[str, Any] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    experiment: str = ""
    last_images: int = 0
    launches: list[Launch] = field(default_factory=list)
    series: dict[str, Series] = field(default_factory=lambda: defaultdict(Series))
    grids: dict[str, dict[int, Shown]] = field(default_factory=lambda: defaultdict(dict))
    """The grids of samples and the plots: key (`samples/ema`) -> images seen -> picture."""
    pages: dict[str, dict[int, Shown]] = field(default_factory=lambda: defaultdict(dict))
    """The sounds and pages: key -> images seen -> file of HTML."""
    figures: dict[str, Path] = field(default_factory=dict)
    """The drawings of truncation sweeps by file name."""
    health: list[Health] = field(default_factory=list)
    game: Recording | None = None
    """The recorded game of a run on points; None of others."""
    checkpoints: list[KeptCheckpoint] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    """The clocks of announced checkpoints that are no longer there."""
    scores: dict[int, list[Score]] = field(default_factory=dict)
    missing: dict[tuple[int, str], str] = field(default_factory=dict)
    """The metrics that could not be measured: (images seen, metric) -> reason."""
    notes: list[str] = field(default_factory=list)

    @property
    def total_images(self) -> int:
        """The images that the recipe trains for; 0 when unknown."""
        images = self.recipe.get("images", 0)
        return images if is_count(images) else 0

    @property
    def active_seconds(self) -> float:
        """The time spent in launches, without the pauses between them."""
        return sum(launch.last_ms - launch.started_ms for launch in self.launches) / 1000

    @property
    def reals(self) -> Path | None:
        """The latest grid of real images; None without one."""
        found = self.grids.get(_REAL, {})
        return found[max(found)].path if found else None

    @property
    def sample_keys(self) -> list[str]:
        """The keys of generated images and plots, `samples/ema` first."""
        return sorted((key for key in self.grids if key != _REAL), key=lambda key: (key != "samples/ema", key))

    @property
    def page_keys(self) -> list[str]:
        """The keys of sounds and pages."""
        return sorted(self.pages)


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        FrameworkError: the folder holds no journal.
    """
    folder = folder.resolve()
    journal = folder / JOURNAL_NAME
    if not journal.is_file():
        raise FrameworkError(f"{folder} holds no {JOURNAL_NAME}: give the folder of a run (the one of --out)")
    run = Run(folder=folder, name=folder.name)
    _read_journal(run, journal)
    _read_recipe(run)
    _read_checkpoints(run)
    _read_game(run)
    run.state = _state(run)
    return run


def _read_journal(run: Run, journal: Path) -> None:
    # Every record that can be read.
    read_bytes = num_unreadable = 0
    for end, record in read_journal(journal):
        read_bytes = end
        try:
            _observe(run, record)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            num_unreadable += 1
        if record["kind"] == "unreadable":
            num_unreadable += 1
    # What could not be read becomes a note.
    if rest := journal.stat().st_size - read_bytes:
        run.notes.append(
            f"The journal's last line is cut ({rest} bytes): a write under way, or a crash. All before it is shown."
        )
    if num_unreadable:
        run.notes.append(f"{num_unreadable} damaged line(s) of the journal were passed over.")
    if not run.launches:
        run.notes.append("The journal has no start record: launches and duration are unknown.")


def _observe(run: Run, record: Record) -> None:
    kind, time_ms = record["kind"], int(record["time_ms"])
    # A launch begins.
    if kind == "start":
        run.name, run.experiment = str(record["run_name"]), str(record["experiment"])
        number = len(run.launches) + 1
        run.launches.append(
            Launch(number=number, started_ms=time_ms, last_ms=time_ms, host=str(record.get("host", "")))
        )
    # Numbers, pictures and texts.
    elif kind == "metrics":
        _observe_metrics(run, record)
    elif kind in ("image", "media"):
        _observe_shown(run, record)
    elif kind == "artifact" and record["folder"] == FIGURES:
        _observe_figure(run, record)
    elif kind in ("params", "tags"):
        values = {str(name): str(value) for name, value in record["values"].items()}
        (run.params if kind == "params" else run.tags).update(values)
        if images := values.get("framework.checkpoint_images"):
            run.deleted.append(int(images))
    # Resumes and rollbacks.
    elif kind == "resumed":
        run.launches[-1].from_images = int(record["images"])
    elif kind == "rollback":
        run.notes.append(
            f"A collapse was seen at {int(record['from_images']):,} images; training went back to the checkpoint at "
            f"{int(record['images']):,} with a lower learning rate and other data. Curves up to there show what came "
            "first."
        )
    # Quality and health.
    elif kind == "evaluation":
        _add_scores(run, int(record["images"]), scores_from(record["records"]))
        run.missing |= {(int(record["images"]), name): why for name, why in missing_from(record["records"]).items()}
    elif kind == "health":
        run.health.append(_health(record))
    # Lost records, and the end of the launch.
    elif kind == "dropped":
        run.notes.append(f"{int(record['count'])} records were lost while the disk was full.")
    elif kind == "end":
        run.launches[-1].state = STATES.get(record["status"], "unknown")
    # What evaluation adds to an ended run took no training time.
    if run.launches and (kind == "end" or not run.launches[-1].state):
        run.launches[-1].last_ms = max(run.launches[-1].last_ms, time_ms)


def _observe_metrics(run: Run, record: Record) -> None:
    images = int(record["images"])
    values = {str(name): float(value) for name, value in record["values"].items()}
    _add_scores(run, images, (score for name, value in values.items() if (score := score_from_chart(name, value))))
    for name, value in values.items():
        if math.isfinite(value):
            run.series[name].points[images] = value
        else:  # not from our tracker, which sets these apart
            run.series[name].nonfinite.append(images)
    for name in record.get("nonfinite", ()):
        run.series[str(name)].nonfinite.append(images)
    run.last_images = max(run.last_images, images)


def _add_scores(run: Run, images_seen: int, scores: Iterable[Score]) -> None:
    """Add the scores of a clock; of two on one chart, the one that tells more of its protocol stays."""
    held = {score.chart: score for score in run.scores.get(images_seen, [])}
    for score in scores:
        before = held.get(score.chart)
        if before is None or len(score.protocol or ()) >= len(before.protocol or ()):
            held[score.chart] = score
    if held:
        run.scores[images_seen] = list(held.values())


def _observe_shown(run: Run, record: Record) -> None:
    form = str(record.get("form", "pictures"))
    kept = run.grids if record["kind"] == "image" else run.pages
    if record["kind"] == "media" and form not in PAGE_FORMS:
        run.notes.append(f"What {record['key']!r} shows ({form!r}) is unknown to this version.")
    elif path := _inside(run, record):
        shown = Shown(path=path, form=form, description=str(record.get("description", "")))
        kept[str(record["key"])][int(record["images"])] = shown
        run.last_images = max(run.last_images, int(record["images"]))


def _observe_figure(run: Run, record: Record) -> None:
    path = _inside(run, record)
    if path and path.suffix == ".svg":
        run.figures[path.name] = path


def _inside(run: Run, record: Record) -> Path | None:
    """Return a record's file; None if it is outside the folder, because anybody may have written the journal."""
    path = (run.folder / str(record["file"])).resolve()
    if path.is_relative_to(run.folder):
        return path
    run.notes.append(f"The file {record['file']!r} lies outside the run folder and is not shown.")
    return None


def _health(record: Record) -> Health:
    state = str(record["state"])
    if state not in HEALTH_STATES:
        raise ValueError(f"{state!r} is no state of health")
    texts = {name: str(record.get(name, "")) for name in ("reason", "remedy")}
    return Health(images=int(record["images"]), sentinel=str(record["sentinel"]), state=state, **texts)


def _read_recipe(run: Run) -> None:
    file = run.folder / RECIPE_NAME
    try:
        run.recipe = todays(read_object(file))
    except (OSError, FrameworkError) as error:
        run.notes.append(f"{RECIPE_NAME} cannot be read ({error}).")


def _read_checkpoints(run: Run) -> None:
    paths = checkpoint_paths(run.folder)
    for images, path in paths.items():
        try:
            run.checkpoints.append(read_checkpoint(path))
            records = read_score_file(path)
            _add_scores(run, images, scores_from(records))
            run.missing |= {(images, name): why for name, why in missing_from(records).items()}
        except (ValueError, OSError) as error:
            run.notes.append(f"Checkpoint {images}: {error}.")
    run.deleted = sorted(set(run.deleted) - set(paths))


def _read_game(run: Run) -> None:
    try:
        run.game = read_recording(run.folder)
    except (OSError, FrameworkError) as error:
        run.notes.append(f"The recorded game cannot be shown: {error}.")


def _state(run: Run) -> str:
    try:
        if writer_is_alive(run.folder / WRITER_LOCK_NAME):
            return "running"
    except OSError:  # a folder we may only read: its lock cannot be asked
        run.notes.append("It is unknown whether the run is still going on: its lock file may not be opened.")
    if not run.launches:
        return "unknown"
    # A trainer that ended without an `end` record was killed: out of memory, a lost node, SIGKILL.
    return run.launches[-1].state or "failed"
