"""The recording of a game of points: what is drawn of it, frame by frame, in few bytes and with stated errors.

A frame is kept as text (base64 of small integers), the same in the run folder and on the page. The errors:

* a point, per coordinate: half of `REACH * half / 32767`, 0.006 % of the square's side; what is further from the
  middle than `REACH` half sides lies on the edge of that range, and is counted as outside anyway;
* a logit: 1 / 508 of the frame's range of logits;
* a gradient: 0.7 degrees and a factor of 1.09 in length, for lengths from 3e-10 to 3e9.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framework.utils.errors import FrameworkError

Numbers = NDArray[np.floating[Any]]

REACH = 4.0
"""The distance from the middle, in half sides of the square, up to which points keep their places."""
_LARGEST = 32767
_NO_POINT = -32768
_LOGIT_STEPS, _NO_LOGIT = 254, 255
_ANGLES, _PER_OCTAVE, _UNIT = 256, 4, 128
_LEAST_LENGTH, _MOST_LENGTH, _NO_LENGTH = 1, 254, 255
MOST_MODES = 400
"""The most modes that are followed; a page with more circles shows nothing."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is the same in all frames of a run.

    Raises:
        FrameworkError: a number is out of range.
    """

    centre: tuple[float, float]
    """The middle of the square that is shown."""
    half: float
    """Half of its side, in the units of the data."""
    reals: str
    """Real points (N, 2), as `points_to_text` writes them."""
    num_reals: int
    fakes: int
    """The number of generated points; they have the same latents in every frame."""
    arrows: int
    """The number of the first generated points at which gradients are known; 0 where the generator has no such loss."""
    side: int
    """The logits are those of `side` x `side` points, the edges of the square included, the lowest row first."""
    grid: tuple[int, int]
    """Rows and columns of the image of the latent grid; one row of a generator with a single latent number."""
    loss: str
    """The name of the adversarial loss."""
    probability: bool
    """Whether the logistic function of a logit is the probability that the sample is real."""
    undecided: float | None
    """The logit of an undecided discriminator; None where any constant is."""
    slice: str
    """Which plane of the latents the grid lies in, in a sentence."""
    step_images: int
    """Real samples of one step."""
    classes: int = 0
    """The number of classes of the data; the surface and the grid are those of the first."""
    modes: tuple[tuple[float, float], ...] = ()
    """The centres of the data's modes, where the recipe knows them."""
    mode_radius: float = 0.0
    """The distance from a centre within which a point is good."""

    def __post_init__(self) -> None:
        numbers = (*self.centre, self.half, self.mode_radius, *(number for mode in self.modes for number in mode))
        if not (all(map(math.isfinite, numbers)) and self.half > 0 and self.mode_radius >= 0):
            raise FrameworkError("the recording of a game: its square and modes must be finite numbers")
        counts = (self.num_reals, self.fakes, self.side, *self.grid, self.step_images)
        if not (all(1 <= count <= 4096 for count in counts[:-1]) and self.step_images >= 1):
            raise FrameworkError("the recording of a game: the number of its points is out of range")
        if not (0 <= self.arrows <= self.fakes and len(self.modes) <= MOST_MODES):
            raise FrameworkError("the recording of a game: it has more arrows than points, or too many modes")
        _checked(self.reals, what="reals", num_bytes=4 * self.num_reals)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What is drawn at one clock.

    Raises:
        FrameworkError: see `check`.
    """

    images_seen: int
    fakes: str
    """Generated points, as `points_to_text` writes them."""
    surface: str
    """The discriminator's logits, as `logits_to_text` writes them."""
    low: float
    """The least of these logits."""
    high: float
    """The largest of these logits."""
    arrows: str
    """The generator's gradients, as `gradients_to_text` writes them."""
    grid: str
    """The image of the latent grid, as `points_to_text` writes it."""
    real_logit: float | None
    """The mean logit of the real points; None where it is not finite."""
    fake_logit: float | None
    """The mean logit of the generated points; None where it is not finite."""
    hits: tuple[int, ...] = ()
    """Good points of each mode."""
    is_end: bool = False
    """Whether it was made only because the run was to end here."""

    def check(self, scene: Scene) -> None:
        """Refuse a frame that is not one of the scene's.

        Raises:
            FrameworkError: an array has another length, or a number is out of range.
        """
        rows, columns = scene.grid
        for name, num_bytes in (
            ("fakes", 4 * scene.fakes),
            ("surface", scene.side**2),
            ("arrows", 2 * scene.arrows),
            ("grid", 4 * rows * columns),
        ):
            _checked(getattr(self, name), what=name, num_bytes=num_bytes)
        logits = [one for one in (self.low, self.high, self.real_logit, self.fake_logit) if one is not None]
        if not all(map(math.isfinite, logits)) or self.low > self.high:
            raise FrameworkError(f"the frame at {self.images_seen} images: its logits must be finite numbers")
        if len(self.hits) != len(scene.modes) or not all(0 <= hit <= scene.fakes for hit in self.hits):
            raise FrameworkError(f"the frame at {self.images_seen} images: it must have a count for each mode")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A word of a sentinel, or a return to a checkpoint, on the time axis."""

    images_seen: int
    state: str
    """`ok`, `warn`, `failing` or `rollback`."""
    sentinel: str
    reason: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The game of one run, as far as it has been played."""

    name: str
    """The name of the run."""
    recipe: str
    """The name of the recipe."""
    scene: Scene
    frames: Sequence[Frame]
    """In the order of the clock, at least one."""
    series: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    """(images seen, value) by metric: `loss/D`, `loss/G`, `grad_norm/D`, `grad_norm/G`."""
    marks: Sequence[Mark] = ()


def points_to_text(points: Any, scene_centre: tuple[float, float], half: float) -> str:
    """Return points (..., 2) as base64 of int16; see the module for the error."""
    found = np.asarray(points, np.float64).reshape(-1, 2)
    known = np.asarray(np.isfinite(found).all(axis=1))
    scaled = (np.where(known[:, None], found, 0.0) - scene_centre) * (_LARGEST / (REACH * half))
    codes = np.rint(np.clip(scaled, -_LARGEST, _LARGEST)).astype("<i2")
    codes[~known] = _NO_POINT
    return base64.b64encode(codes.tobytes()).decode()


def points_from_text(text: str, scene: Scene) -> Numbers:
    """Return the points (N, 2); NaN where there was no finite number."""
    codes = np.frombuffer(base64.b64decode(text), "<i2").reshape(-1, 2).astype(np.float64)
    points = codes * (REACH * scene.half / _LARGEST) + np.asarray(scene.centre)
    return np.where(codes == _NO_POINT, np.nan, points)


def logits_to_text(logits: Any) -> tuple[str, float, float]:
    """Return logits of any shape as base64 of uint8, with the least and the largest; see the module for the error."""
    found = np.asarray(logits, np.float64).reshape(-1)
    known = np.asarray(np.isfinite(found))
    # The ends are written as text: the codes are relative to what will be read.
    low, high = (float(f"{end:.7g}") for end in (found[known].min(), found[known].max())) if known.any() else (0.0, 0.0)
    share = (np.where(known, found, low) - low) / ((high - low) or 1.0)
    codes = np.rint(np.clip(share, 0.0, 1.0) * _LOGIT_STEPS).astype(np.uint8)
    codes[~known] = _NO_LOGIT
    return base64.b64encode(codes.tobytes()).decode(), low, high


def logits_from_text(frame: Frame, scene: Scene) -> Numbers:
    """Return the logits (side, side), the lowest row first; NaN where there was no finite number."""
    codes = np.frombuffer(base64.b64decode(frame.surface), np.uint8).reshape(scene.side, scene.side)
    logits = frame.low + codes * ((frame.high - frame.low) / _LOGIT_STEPS)
    return np.where(codes == _NO_LOGIT, np.nan, logits)


def gradients_to_text(gradients: Any) -> str:
    """Return gradients (N, 2) as base64 of two uint8 each, angle and length; see the module for the error."""
    found = np.asarray(gradients, np.float64).reshape(-1, 2)
    known = np.asarray(np.isfinite(found).all(axis=1))
    x, y = np.where(known[:, None], found, 0.0).T
    length = np.hypot(x, y)
    codes = np.zeros((len(found), 2), np.uint8)
    codes[:, 0] = np.rint(np.arctan2(y, x) * (_ANGLES / (2 * np.pi))).astype(np.int64) % _ANGLES
    sizes = np.rint(_PER_OCTAVE * np.log2(np.where(length > 0, length, 1.0))) + _UNIT
    codes[:, 1] = np.where(length > 0, np.clip(sizes, _LEAST_LENGTH, _MOST_LENGTH), 0)
    codes[~known, 1] = _NO_LENGTH
    return base64.b64encode(codes.tobytes()).decode()


def gradients_from_text(text: str) -> Numbers:
    """Return the gradients (N, 2); NaN where there was no finite number."""
    angles, sizes = np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, 2).astype(np.float64).T
    lengths = np.where(sizes == 0, 0.0, np.exp2((sizes - _UNIT) / _PER_OCTAVE))
    lengths = np.where(sizes == _NO_LENGTH, np.nan, lengths)
    turns = angles * (2 * np.pi / _ANGLES)
    return np.stack([lengths * np.cos(turns), lengths * np.sin(turns)], axis=1)


def _checked(text: str, *, what: str, num_bytes: int) -> None:
    """Refuse what is no base64 of so many bytes."""
    try:
        length = len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, TypeError):
        length = -1
    if length != num_bytes:
        raise FrameworkError(f"the recording of a game: {what} must be {num_bytes} bytes in base64")
