"""The page of recorded games and its still: the same bytes for the same games, and nothing that reaches out or runs."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from framework.media.game_page import game_page, game_script, game_title
from framework.media.game_strip import game_strip
from framework.media.page import reaching_out
from framework.media.recording import Mark
from framework.utils.errors import FrameworkError
from tests.helpers.games import CLOCKS, frame, recording, scene

HOSTILE = "</script><img src=x onerror=alert(1)>"


def data_of(html: str) -> dict:
    found = re.findall(r'<script type="application/json" class="g-data">(.*?)</script>', html)
    assert len(found) == 1
    return json.loads(found[0])


def test_the_same_games_give_the_same_bytes() -> None:
    assert game_page([recording()]).encode() == game_page([recording()]).encode()
    assert game_page([recording()]).encode() != game_page([recording(slope=3.0)]).encode()
    assert game_strip(recording()).encode() == game_strip(recording()).encode()


def test_the_page_holds_every_frame_and_the_words_for_every_layer() -> None:
    page = game_page([recording("a"), recording("b", clocks=CLOCKS[:3])])
    runs = data_of(page.html)["runs"]
    assert [(run["name"], run["images"]) for run in runs] == [("a", list(CLOCKS)), ("b", list(CLOCKS[:3]))]
    assert runs[0]["surface"] == [frame(images).surface for images in CLOCKS]
    assert page.title == "ring: a, b"
    for layer in ("Real points", "Generated points", "Discriminator", "Gradients", "Latent grid", "Modes"):
        assert page.html.count(f"{layer}") >= 2, "a switch and a sentence"
    assert re.findall(r'data-layer="(\w+)"', page.html) == ["reals", "fakes", "surface", "arrows", "grid", "modes"]


def test_layers_that_no_run_has_are_left_out() -> None:
    bare = replace(scene(modes=()), arrows=0)
    frames = [replace(frame(images, of=bare), arrows="", hits=()) for images in CLOCKS]
    page = game_page([replace(recording(), scene=bare, frames=frames)])
    assert re.findall(r'data-layer="(\w+)"', page.html) == ["reals", "fakes", "surface", "grid"]
    assert "gradient" not in page.html.split('class="g-data"')[0].split("</style>")[1]


def test_names_are_text_and_nothing_reaches_out() -> None:
    mark = Mark(images_seen=16, state="warn", sentinel=HOSTILE, reason=HOSTILE, remedy=HOSTILE)
    page = game_page([replace(recording(HOSTILE, marks=[mark]), recipe=HOSTILE)])
    assert HOSTILE not in page.html
    assert "<img" not in page.html
    assert data_of(page.html)["runs"][0]["name"] == HOSTILE
    assert reaching_out(page.html) == ""
    assert "http" not in page.html.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "default-src &#x27;none&#x27;" in page.html
    assert "</" not in game_script(), "the end of a script element"


def test_a_critic_has_no_undecided_logit_and_no_probability() -> None:
    critic = replace(scene(undecided=None), loss="Wasserstein")
    html = game_page([replace(recording(), scene=critic)]).html
    assert "half way between its means on real and on generated points" in html
    assert "by its probability" not in html
    assert (run := data_of(html)["runs"][0])["undecided"] is None
    assert run["probability"] is False


def test_one_to_eight_games_fit() -> None:
    for number in (0, 9):
        with pytest.raises(FrameworkError, match=f"1 to 8 runs, these are {number}"):
            game_page([recording()] * number)
    assert game_title([recording("ring")]) == "ring"


@pytest.mark.parametrize(("clocks", "rows"), [(CLOCKS, 2), (CLOCKS[:2], 1)])
def test_the_still_shows_up_to_six_frames(clocks: tuple[int, ...], rows: int) -> None:
    with Image.open(io.BytesIO(game_strip(recording(clocks=clocks)).encode())) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    assert height / width == pytest.approx(rows / 3 * (2.45 + 0.16) / 2.45, abs=0.01)
    # The colour of generated points is in every panel that has a frame.
    fake = np.abs(pixels - [0x9C, 0x14, 0x58]).sum(2) < 60
    panels = [part for row in np.array_split(fake, rows) for part in np.array_split(row, 3, axis=1)]
    assert [bool(panel.any()) for panel in panels] == [number < len(clocks) for number in range(3 * rows)]
