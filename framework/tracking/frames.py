"""The frames of a game of points, `<run>/frames.jsonl`: one JSON object a line, the scene first.

One process (rank 0) appends a line a frame. A resumed run keeps the frames up to its checkpoint and makes the others
again, which are the same to the bit, so the file of a killed run ends up as that of an undisturbed one.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework.media.recording import Frame, Mark, Recording, Scene
from framework.tracking.records import JOURNAL_NAME, Record, read_journal
from framework.utils.atomic import replacing
from framework.utils.bounded import is_count, parse_json, read_file, read_object
from framework.utils.errors import FrameworkError

FRAMES_NAME = "frames.jsonl"
MOST_BYTES = 24 << 20
"""The most bytes of a file of frames: what a page may hold (`framework.media.base.MOST_BYTES`) with its other parts."""
SERIES = ("loss/D", "loss/G", "grad_norm/D", "grad_norm/G")
"""The metrics that are drawn below the game."""
_FORMAT = 1
_MOST_POINTS = 500
_MOST_WORDS = 400
_MOST_NAME = 100

_log = logging.getLogger(__name__)


class FramesFile:
    """The only writer of a run's frames; a disk that fails ends the recording and nothing else.

    Args:
        scene: what is the same in all frames.

    Attributes:
        path: the file.
        num_frames: the number of frames in it.
    """

    def __init__(self, run_folder: Path, scene: Scene) -> None:
        self.path = run_folder / FRAMES_NAME
        self.num_frames = 0
        self._scene = scene
        self._failed = False

    def begin(self, *, images_seen: int, total_images: int) -> int:
        """Begin at a clock: keep the frames up to it, cut off the rest; return the clock of the last frame, or -1.

        Frames of another scene are not kept. The last frame of a run that was to end earlier goes, too, because a run
        that was to end later has none there.

        Args:
            images_seen: the clock of the checkpoint from which training goes on; -1 keeps nothing.
            total_images: where the run is to end.
        """
        kept: list[Frame] = []
        try:
            found, frames = read_frames(self.path)
            if found == self._scene:
                kept = [one for one in frames if one.images_seen <= images_seen]
                kept = [one for one in kept if not one.is_end or one.images_seen >= total_images]
        except FileNotFoundError:
            pass
        except (OSError, FrameworkError) as error:
            _log.warning("the frames so far are left out: %s", error)
        lines = [_line({"format": _FORMAT, "scene": dataclasses.asdict(self._scene)}), *map(_line_of, kept)]
        self.num_frames = len(kept)
        try:
            with replacing(self.path) as temporary:
                temporary.write_bytes(b"".join(lines))
        except OSError as error:
            self._give_up(error)
        return kept[-1].images_seen if kept else -1

    def append(self, frame: Frame) -> None:
        """Add a frame; after a failure of the disk, do nothing."""
        if self._failed:
            return
        try:
            with self.path.open("ab") as file:
                file.write(_line_of(frame))
            self.num_frames += 1
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._failed = True
        _log.warning("%s: %s; the game is not recorded any more, training goes on", self.path, error)


def read_frames(path: Path) -> tuple[Scene, list[Frame]]:
    """Return the scene and the frames of a file that anybody may have written; a torn last line is left out.

    Raises:
        OSError: there is no such file, or it may not be read.
        FrameworkError: it is too large, or damaged.
    """
    *lines, _ = read_file(path, most_bytes=MOST_BYTES).split(b"\n")
    if not lines:
        raise FrameworkError(f"{path} has no line: it was not written by a training run")
    head = _object(lines[0], source=path)
    if head.get("format") != _FORMAT:
        raise FrameworkError(f"{path} has the format {str(head.get('format'))[:20]!r}; this version reads {_FORMAT}")
    scene = _scene(head.get("scene"), source=path)
    frames: list[Frame] = []
    for line in lines[1:]:
        frame = Frame(**_typed(_object(line, source=path), Frame, source=path))
        frame.check(scene)
        if frames and frame.images_seen <= frames[-1].images_seen:
            raise FrameworkError(f"{path} is damaged: its frames are not in the order of the clock")
        frames.append(frame)
    return scene, frames


def read_recording(run_folder: Path) -> Recording | None:
    """Return the game of a run with its losses and alerts; None where the run has recorded none.

    Raises:
        OSError: a file may not be read.
        FrameworkError: the frames are damaged.
    """
    try:
        scene, frames = read_frames(run_folder / FRAMES_NAME)
    except FileNotFoundError:
        return None
    if not frames:
        return None
    name, series, marks = _from_journal(run_folder / JOURNAL_NAME, name=run_folder.name)
    recipe = ""
    try:
        recipe = str(read_object(run_folder / "recipe.json").get("name", ""))
    except (OSError, FrameworkError) as error:
        _log.warning("the name of the recipe is left out: %s", error)
    return Recording(
        name=_one_line(name)[:_MOST_NAME],
        recipe=_one_line(recipe)[:_MOST_NAME],
        scene=scene,
        frames=frames,
        series=series,
        marks=marks,
    )


def _from_journal(path: Path, *, name: str) -> tuple[str, dict[str, list[tuple[int, float]]], list[Mark]]:
    """Return the run's name, the series and the marks, the same for a killed and an undisturbed run."""
    points: dict[str, dict[int, float]] = {metric: {} for metric in SERIES}
    health: dict[tuple[int, str], Record] = {}
    marks: list[Mark] = []
    if path.is_file():
        for _, record in read_journal(path):
            try:
                kind, images = record["kind"], record.get("images", 0)
                if kind == "start":
                    name = str(record["run_name"])
                elif kind == "metrics":
                    for metric in points.keys() & record["values"].keys():
                        points[metric][int(images)] = float(record["values"][metric])
                elif kind == "health":
                    health[int(images), str(record["sentinel"])] = record
                elif kind == "rollback":
                    reason = f"training went back from {int(record['from_images']):,} images to {int(images):,}"
                    marks.append(_mark(int(record["from_images"]), "rollback", "rollback", reason))
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
                continue  # the report says how many lines are damaged
    marks += _changes(health)
    series = {metric: _thinned(sorted(found.items())) for metric, found in points.items() if found}
    return name, series, sorted(marks, key=lambda mark: (mark.images_seen, mark.sentinel))


def _changes(health: Mapping[tuple[int, str], Record]) -> list[Mark]:
    """Return the changes of each sentinel's state, of which all are taken to be well in the beginning.

    A resumed run says again what it sees, and every record is true at its clock: in the order of the clock, without
    repetitions, they are what an undisturbed run says.
    """
    before: dict[str, str] = {}
    marks = []
    for (images, sentinel), record in sorted(health.items(), key=lambda item: item[0]):
        state = str(record["state"])
        if state != before.get(sentinel, "ok"):
            marks.append(_mark(images, state, sentinel, str(record.get("reason", "")), str(record.get("remedy", ""))))
        before[sentinel] = state
    return marks


def _mark(images_seen: int, state: str, sentinel: str, reason: str, remedy: str = "") -> Mark:
    words = {"state": state, "sentinel": sentinel, "reason": reason, "remedy": remedy}
    return Mark(images_seen=images_seen, **{key: _one_line(text) for key, text in words.items()})


def _one_line(text: str) -> str:
    """Return a text that anybody may have written as one line of bounded length."""
    shown = "".join(one if unicodedata.category(one) not in ("Cc", "Cs") else " " for one in text[:_MOST_WORDS])
    return " ".join(shown.split())


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most `_MOST_POINTS` points, denser in the beginning, as frames are; the last one stays."""
    if len(points) <= _MOST_POINTS:
        return points
    ratio = len(points) ** (1 / _MOST_POINTS)
    places, place = {len(points) - 1}, 0
    while place < len(points):
        places.add(place)
        place = max(place + 1, round(place * ratio))
    kept = sorted(places)
    every = -(-len(kept) // _MOST_POINTS)
    return [points[one] for one in dict.fromkeys([*kept[::every], len(points) - 1])]


def _line_of(frame: Frame) -> bytes:
    return _line(dataclasses.asdict(frame))


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _object(line: bytes, *, source: Path) -> dict[str, Any]:
    content = parse_json(line, source=source)
    if not isinstance(content, dict):
        raise FrameworkError(f"{source} is damaged: a line is no JSON object")
    return content


def _scene(content: object, *, source: Path) -> Scene:
    if not isinstance(content, dict):
        raise FrameworkError(f"{source} is damaged: its first line has no scene")
    return Scene(**_typed(content, Scene, source=source))


_HOLDS: Mapping[str, Any] = {
    "int": is_count,
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "float": lambda value: type(value) in (int, float),
    "float | None": lambda value: value is None or type(value) in (int, float),
    "tuple[int, ...]": lambda value: isinstance(value, list) and all(map(is_count, value)),
    "tuple[int, int]": lambda value: isinstance(value, list) and len(value) == 2 and all(map(is_count, value)),
    "tuple[float, float]": lambda value: _is_pair(value),
    "tuple[tuple[float, float], ...]": lambda value: isinstance(value, list) and all(map(_is_pair, value)),
}


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(one) in (int, float) for one in value)


def _typed(content: Mapping[str, Any], cls: type[Any], *, source: Path) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON has them, lists as tuples.

    Raises:
        FrameworkError: one is missing, unknown, or of another type than it is declared with.
    """
    declared = {one.name: str(one.type) for one in dataclasses.fields(cls)}
    wrong = [name for name in declared if name not in content or not _HOLDS[declared[name]](content[name])]
    if wrong or len(content) > len(declared):
        named = wrong[0] if wrong else next(name for name in content if name not in declared)
        raise FrameworkError(f"{source} is damaged: {named[:40]!r} of a {cls.__name__.lower()} is not what it must be")
    return {name: _tuples(content[name]) for name in declared}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
