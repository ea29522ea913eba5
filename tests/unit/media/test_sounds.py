"""Sound clips: what is in the WAV, what is on the page, and what could not be played."""

from __future__ import annotations

import base64
import io
import re
import wave

import numpy as np
import pytest

from framework.media import Sounds
from framework.media.sounds import MOST_CLIPS
from framework.utils.errors import FrameworkError

HOSTILE = "<script>alert(1)</script>"


def read_wav(content: bytes) -> tuple[tuple[int, int, int], list[int]]:
    with wave.open(io.BytesIO(content)) as file:
        head = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        return head, np.frombuffer(file.readframes(file.getnframes()), "<i2").tolist()


def test_a_clip_is_a_wav_of_sixteen_bits() -> None:
    sounds = Sounds(np.array([[0.0, 1.0, -1.0, 0.5, -0.25]], np.float32), sample_rate=8000)
    assert read_wav(sounds.wav(0)) == ((1, 2, 8000), [0, 32767, -32767, 16384, -8192])
    page = sounds.encode().decode()
    (embedded,) = re.findall(r'src="data:audio/wav;base64,([^"]+)"', page)
    assert base64.b64decode(embedded) == sounds.wav(0)
    assert sounds.encode() == sounds.encode()


def test_what_cannot_be_played_is_cut_off_or_silent_and_told() -> None:
    sounds = Sounds([[np.nan, np.inf, -3.0, 1.5, 0.0]], sample_rate=10, captions=["loud"], title="Tones")
    assert read_wav(sounds.wav(0))[1] == [0, 32767, -32767, 32767, 0]
    told = "3 samples lie beyond [-1, 1] and are cut off, 1 samples are no numbers and are silent"
    assert sounds.description == f"Tones: 1 sound clip of 0.50 s at 10 Hz: loud ({told})"
    assert f"<p>{told}.</p>" in sounds.encode().decode()


def test_the_page_has_a_player_and_a_waveform_for_each_and_runs_nothing() -> None:
    clips = np.stack([np.linspace(-1, 1, 1000), np.zeros(1000)])
    page = Sounds(clips, sample_rate=1000, captions=[HOSTILE, "silence"], title=HOSTILE).encode().decode()
    assert page.count("<audio controls") == page.count("<svg") == 2
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 3, "captions and title are shown as what they are"
    assert "content=\"default-src 'none'" in page.replace("&#x27;", "'")
    assert not re.search(r"https?:|url\(|@import", page)
    rising, silent = re.findall(r'd="M([^"]+)Z"', page)
    ys = [float(pair.split()[1]) for pair in rising.split("L")]
    assert (max(ys[:360]), min(ys[:360])) == (pytest.approx(62, abs=0.2), 2.0), "from the bottom to the top"
    assert ys[:360] == sorted(ys[:360], reverse=True)
    assert {pair.split()[1] for pair in silent.split("L")} == {"32.0"}


def test_short_clips_are_drawn() -> None:
    assert 'viewBox="0 0 1 64"' in Sounds([[0.5]], sample_rate=1).encode().decode()


def test_clips_cannot_be_changed_after_they_were_given() -> None:
    clips = np.zeros((1, 4))
    sounds = Sounds(clips, sample_rate=4)
    clips[:] = 1
    assert read_wav(sounds.wav(0))[1] == [0, 0, 0, 0]


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(FrameworkError, match=r"floats \(N, samples\)"):
        Sounds(np.zeros(4), sample_rate=4)
    with pytest.raises(FrameworkError, match="got int64"):
        Sounds(np.zeros((1, 4), np.int64), sample_rate=4)
    for rate in (0, 4.0, True, 10**9):
        with pytest.raises(FrameworkError, match="sample_rate"):
            Sounds(np.zeros((1, 4)), sample_rate=rate)  # type: ignore[arg-type]
    with pytest.raises(FrameworkError, match="1 captions for 2 clips"):
        Sounds(np.zeros((2, 4)), sample_rate=4, captions=["a"])
    with pytest.raises(FrameworkError, match=f"at most {MOST_CLIPS} clips"):
        Sounds(np.zeros((MOST_CLIPS + 1, 1)), sample_rate=4)
    with pytest.raises(FrameworkError, match=r"show at most .* 16\.0 MiB"):
        Sounds(np.zeros((1, 7_000_000), np.float32), sample_rate=4)
