"""Sound clips as one page of HTML: a player and a drawing of the waveform for each."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from framework.media.base import MOST_BYTES, Media, check_text, check_texts, kept, listed, shortened
from framework.media.markup import Html, document, tag
from framework.utils.errors import FrameworkError
from framework.utils.quantities import format_bytes

MOST_CLIPS = 64
MOST_SAMPLE_RATE = 384_000
_LARGEST = (1 << 15) - 1
_BYTES_PER_SAMPLE = 8 / 3
"""Bytes of a sample on the page: two, as base64."""
_COLUMNS = 360
_HEIGHT = 64
_POLICY = "default-src 'none'; media-src data:; style-src 'unsafe-inline'"
_STYLE = """
* { box-sizing: border-box; }
:root { --page: #ffffff; --ink: #1d1d1b; --soft: #63625d; --line: #e2e0d9; --wave: #2563a8; }
@media (prefers-color-scheme: dark) {
  :root { --page: #1f1f1c; --ink: #ecebe6; --soft: #a09e96; --line: #35342f; --wave: #6fa8e8; }
}
body {
  margin: 0 auto; padding: .9rem 1rem; max-width: 60rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 ui-sans-serif, system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: anywhere;
}
h1 { margin: 0 0 .75rem; font-size: 1.05rem; font-weight: 600; }
main { display: grid; gap: 1.1rem 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { display: flex; justify-content: space-between; gap: 1rem; font-size: .9rem; }
figcaption span { color: var(--soft); white-space: nowrap; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: 4rem; margin: .25rem 0 .35rem; border: 1px solid var(--line);
  border-radius: 4px; }
.wave { fill: var(--wave); stroke: var(--wave); stroke-width: .6; }
.zero { stroke: var(--line); }
audio { display: block; width: 100%; height: 2.25rem; }
"""


@dataclass(frozen=True, eq=False)
class Sounds(Media):
    """Clips of one channel, 16 bits a sample on the page, under a policy that forbids scripts and loading.

    Attributes:
        clips: `(N, samples)` floats in [-1, 1]. What lies beyond is cut off, and what is no number is silence: the
            description and the page count both.
        sample_rate: samples per second.
        captions: a name for each clip.
        title: what the clips are.

    Raises:
        FrameworkError: wrong shape, dtype or count, or more than a page may hold.
    """

    suffix: ClassVar[str] = ".html"
    form: ClassVar[str] = "sounds"

    clips: NDArray[Any]
    _: KW_ONLY
    sample_rate: int
    captions: Sequence[str] = ()
    title: str = ""

    def __post_init__(self) -> None:
        clips = kept(self.clips)
        if clips.ndim != 2 or not np.issubdtype(clips.dtype, np.floating) or not clips.size:
            raise FrameworkError(
                f"sound clips must be floats (N, samples) in [-1, 1], got {clips.dtype} of shape {clips.shape}"
            )
        if type(self.sample_rate) is not int or not 1 <= self.sample_rate <= MOST_SAMPLE_RATE:
            raise FrameworkError(f"sample_rate={self.sample_rate!r}: must be an integer from 1 to {MOST_SAMPLE_RATE:,}")
        captions = check_texts(self.captions, what="the caption of a clip")
        if captions and len(captions) != len(clips):
            raise FrameworkError(f"{len(captions)} captions for {len(clips)} clips: give one caption per clip")
        check_text(self.title, what="the title of sound clips")
        num_bytes = int(clips.size * _BYTES_PER_SAMPLE)
        if len(clips) > MOST_CLIPS or num_bytes > MOST_BYTES // 2:
            raise FrameworkError(
                f"{len(clips)} clips of {clips.shape[1]:,} samples take {format_bytes(num_bytes)}: show at most "
                f"{MOST_CLIPS} clips and {format_bytes(MOST_BYTES // 2)}"
            )
        object.__setattr__(self, "clips", clips)
        object.__setattr__(self, "captions", captions or tuple(f"clip {n}" for n in range(1, len(clips) + 1)))

    @property
    def seconds(self) -> float:
        """The length of a clip."""
        return self.clips.shape[1] / self.sample_rate

    @property
    def description(self) -> str:
        """The number of clips, their length, rate and names, and what of them could not be played as it was."""
        count = len(self.clips)
        size = f"{count} sound clip{'s' * (count > 1)} of {self.seconds:.2f} s at {self.sample_rate:,} Hz"
        head = f"{self.title}: {size}" if self.title else size
        faults = self._faults()
        return shortened(f"{head}: {listed(self.captions)}{f' ({faults})' if faults else ''}")

    def encode(self) -> bytes:
        """Return the page in UTF-8."""
        faults = self._faults()
        page = document(
            tag("h1", self.title) if self.title else None,
            tag("p", f"{faults[0].upper()}{faults[1:]}.") if faults else None,
            tag("main", *[self._figure(number) for number in range(len(self.clips))]),
            title=self.title or "Sound clips",
            policy=_POLICY,
            style=_STYLE,
        )
        return page.encode()

    def wav(self, number: int) -> bytes:
        """Return a clip as the bytes of a WAV file, one channel of 16 bits."""
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.sample_rate)
            file.writeframes(np.rint(self._playable(number) * _LARGEST).astype("<i2").tobytes())
        return buffer.getvalue()

    def _playable(self, number: int) -> NDArray[np.float64]:
        """Return a clip as finite numbers in [-1, 1]."""
        return np.clip(np.nan_to_num(self.clips[number].astype(np.float64), nan=0.0), -1.0, 1.0)

    def _faults(self) -> str:
        """Return how many samples cannot be played as they are; empty when all can."""
        missing = int(np.isnan(self.clips).sum())
        loud = int((np.abs(self.clips) > 1).sum())
        told = [f"{loud:,} samples lie beyond [-1, 1] and are cut off"] if loud else []
        told += [f"{missing:,} samples are no numbers and are silent"] if missing else []
        return ", ".join(told)

    def _figure(self, number: int) -> Html:
        caption = self.captions[number]
        source = f"data:audio/wav;base64,{base64.b64encode(self.wav(number)).decode()}"
        return tag(
            "figure",
            tag("figcaption", caption, tag("span", f"{self.seconds:.2f} s")),
            self._waveform(number),
            tag("audio", controls=True, preload="metadata", src=source, aria_label=caption),
        )

    def _waveform(self, number: int) -> Html:
        """Return the range of the clip in each of `_COLUMNS` stretches of time, on the scale of [-1, 1]."""
        clip = self._playable(number)
        edges = np.linspace(0, len(clip), min(_COLUMNS, len(clip)) + 1).astype(int)
        stretches = [clip[first:last] for first, last in pairwise(edges)]
        middle = _HEIGHT / 2
        above = [f"{x} {middle - one.max() * (middle - 2):.1f}" for x, one in enumerate(stretches)]
        below = [f"{x} {middle - one.min() * (middle - 2):.1f}" for x, one in enumerate(stretches)]
        return tag(
            "svg",
            tag("path", d=f"M0 {middle:g}H{len(stretches)}", class_="zero"),
            tag("path", d=f"M{'L'.join([*above, *reversed(below)])}Z", class_="wave"),
            viewBox=f"0 0 {len(stretches)} {_HEIGHT}",
            preserveAspectRatio="none",
            role="img",
            aria_label=f"waveform of {self.captions[number]}",
        )
