"""The page of recorded games in a real browser: every control, by mouse and by keys, and what a screen reader gets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from framework.media.game_page import game_page
from framework.media.recording import Mark
from tests.helpers.browser import EXECUTABLE, WHY_NOT, Browser
from tests.helpers.games import recording

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(EXECUTABLE is None, reason=WHY_NOT)]

MARK = Mark(images_seen=32, state="warn", sentinel="sign_saturation", reason="0.8 judged real", remedy="ADA")
CLOCK = "document.querySelector('.g-images').textContent"
FRAME = "document.querySelector('.g-frame').textContent"
PLAY = "document.querySelector('.g-play').textContent"
PICTURES = "[...document.querySelectorAll('canvas')].map(canvas => canvas.toDataURL())"
FACTS = "[...document.querySelectorAll('.g-facts')].map(one => one.textContent)"
VALUES = "[...document.querySelectorAll('.g-probe')].map(one => one.textContent)"
SPOKEN = "document.querySelector('[role=status]').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser") / "profile") as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Browser:
    """Two runs; the second has fewer frames, and a logit that rises half as fast."""
    games = [recording("first", marks=[MARK]), recording("second", clocks=(0, 16, 64), slope=1.0)]
    opened(browser, game_page(games).save(tmp_path / "game.html"))
    return browser


@pytest.fixture
def single(browser: Browser, tmp_path: Path) -> Browser:
    opened(browser, game_page([recording()]).save(tmp_path / "game.html"))
    return browser


def opened(browser: Browser, path: Path) -> None:
    browser.errors.clear()
    browser.requests.clear()
    browser.resize(1280, 900)
    browser.open(path.as_uri())
    browser.until("document.querySelector('.game').dataset.ready")


def at(page: Browser) -> str:
    return page.evaluate(CLOCK)


def hover(page: Browser, across: float, down: float, *, canvas: int = 0) -> None:
    """Move the mouse to a share of the way over a picture."""
    x, y = page.evaluate(
        f"(() => {{ const canvas = document.querySelectorAll('canvas')[{canvas}];"
        " canvas.scrollIntoView({block: 'center', behavior: 'instant'});"
        " const box = canvas.getBoundingClientRect();"
        f" return [box.left + box.width * {across}, box.top + box.height * {down}]; }})()"
    )
    page.move(x, y)


def test_two_runs_share_the_clock(page: Browser) -> None:
    assert at(page) == "128 images seen"
    assert page.evaluate(FRAME) == "frame 5 of 5"
    last = page.evaluate(PICTURES)
    assert page.evaluate(FACTS)[0].startswith("1 of 2 modes hit · 25 % of points good")
    # The second run has no frame at 128 images, and shows the one at 64.
    page.press("ArrowLeft")
    assert at(page) == "64 images seen"
    before = page.evaluate(PICTURES)
    assert before[0] != last[0]
    assert before[1] == last[1]
    page.press("Home")
    assert at(page) == "0 images seen"
    assert [one != other for one, other in zip(page.evaluate(PICTURES), last, strict=True)] == [True, True]
    page.press("End")
    assert page.evaluate(PICTURES) == last


def test_facts_are_those_of_the_frame(single: Browser) -> None:
    # At 128 images the second generated point is at 0.5 + 1.0: on the first mode; one point of four is far away.
    facts = single.evaluate(FACTS)[0]
    assert facts == (
        "1 of 2 modes hit · 25 % of points good · D's mean logit 0.5 on real, −1.25 on generated · median gradient 1 · "
        "1 of 4 points outside"
    )
    assert at(single) == "128 images seen · step 8"
    single.press("Home")
    assert single.evaluate(FACTS)[0].startswith(
        "0 of 2 modes hit · 0 % of points good · D's mean logit 0.5 on real, −0.25"
    )
    assert at(single) == "0 images seen · step 0"


def test_buttons_and_slider_move_the_clock(page: Browser) -> None:
    page.click(".g-earlier")
    assert at(page) == "64 images seen"
    page.click(".g-earlier")
    assert at(page) == "32 images seen"
    page.click(".g-later")
    assert at(page) == "64 images seen"
    page.click("input[type=range]")
    assert at(page) == "32 images seen", "the middle of five"
    slider = "document.querySelector('input[type=range]')"
    assert page.evaluate(f"{slider}.getAttribute('aria-valuetext')") == "32 images seen"
    assert page.evaluate(f"[{slider}.value, {slider}.max]") == ["2", "4"]
    # With the focus on the slider a key moves one frame, not two.
    page.evaluate(f"{slider}.focus()")
    page.press("ArrowRight")
    assert at(page) == "64 images seen"
    page.press("PageDown")
    assert at(page) == "0 images seen"


def test_play_goes_to_the_end_and_begins_again(page: Browser) -> None:
    page.press("Home")
    page.click(".g-play")
    assert page.evaluate(PLAY) == "❚❚ Pause"
    page.until(f"{CLOCK} === '128 images seen'")
    assert page.until(f"{PLAY} === '▶ Play'")
    # From the end it begins anew; the space bar does the same, and pauses.
    page.evaluate("document.activeElement.blur()")
    page.evaluate("document.querySelector('.g-speed select').value = '.25'")
    page.press(" ")
    assert page.evaluate(PLAY) == "❚❚ Pause"
    assert at(page) != "128 images seen"
    page.press(" ")
    assert page.evaluate(PLAY) == "▶ Play"
    # Moving by hand stops it, too.
    page.press(" ")
    page.press("ArrowRight")
    assert page.evaluate(PLAY) == "▶ Play"


@pytest.mark.parametrize(
    ("speed", "calm", "delay"), [("1", False, 83), ("4", False, 21), (".25", False, 333), ("4", True, 500)]
)
def test_speed_and_a_reader_who_wants_little_motion(page: Browser, speed: str, calm: bool, delay: int) -> None:
    page.resize(1280, 900, calm=calm)
    page.evaluate(
        "(() => { const real = window.setInterval; window.delays = [];"
        " window.setInterval = (work, delay) => { delays.push(Math.round(delay)); return real(work, delay); }; })()"
    )
    page.press("Home")
    page.evaluate(f"document.querySelector('.g-speed select').value = '{speed}'")
    page.click(".g-play")
    assert page.evaluate("delays") == [delay]
    page.evaluate("document.querySelector('.g-speed select').dispatchEvent(new Event('change'))")
    assert len(page.evaluate("delays")) == 2, "a change of speed is taken up at once"


@pytest.mark.parametrize("number", range(1, 7))
def test_each_layer_is_switched_by_mouse_and_by_key(single: Browser, number: int) -> None:
    button = f".g-layers button:nth-child({number})"
    pressed = f"document.querySelector('{button}').getAttribute('aria-pressed')"
    shown = single.evaluate(PICTURES)
    assert single.evaluate(pressed) == "true"
    single.click(button)
    assert single.evaluate(pressed) == "false"
    without = single.evaluate(PICTURES)
    assert without != shown
    single.evaluate("document.activeElement.blur()")
    single.press(str(number))
    assert single.evaluate(pressed) == "true"
    assert single.evaluate(PICTURES) == shown
    # Alone, the layer still draws something.
    for other in range(1, 7):
        if other != number:
            single.press(str(other))
    alone = single.evaluate(PICTURES)
    single.press(str(number))
    assert single.evaluate(PICTURES) != alone


def test_values_under_the_pointer_are_those_of_all_runs(page: Browser) -> None:
    assert page.evaluate(VALUES) == ["Point at the picture for values."] * 2
    # A quarter of the side right of the middle, x = 1.5: logits 2 (x - 0.5) and (x - 0.5), to 1 / 508 of ranges
    # of 8 and 4; 1 / (1 + e^-2) = 0.88 and 1 / (1 + e^-1) = 0.73. A gradient of 0.01 is kept as 2^(-27/4).
    hover(page, 0.75, 0.5)
    first, second = page.evaluate(VALUES)
    assert first == "At (1.5, −0.25) · logit 1.98 · D = 0.88 · generated point 2 at (1.5, −0.25) · gradient 0.0093"
    assert second.startswith("At (1.5, −0.25) · logit 0.992 · D = 0.73")
    # Between the places that the discriminator was asked at: x = 0.5 + 0.7 * 2, logit 2.8 to the same 1 / 508 of 8.
    hover(page, 0.85, 0.3)
    assert page.evaluate(VALUES)[0].startswith("At (1.9, 0.55) · logit 2.79")
    # Where no generated point is near.
    hover(page, 0.25, 0.9, canvas=1)
    assert page.evaluate(VALUES)[0] == "At (−0.5, −1.85) · logit −1.98 · D = 0.12"
    page.move(2, 2)
    assert page.evaluate(VALUES) == ["Point at the picture for values."] * 2


def test_values_are_read_by_keys(single: Browser) -> None:
    single.evaluate("document.querySelector('canvas').focus()")
    for _ in range(10):
        single.press("ArrowRight", shift=True)
    assert single.evaluate(VALUES)[0].startswith("At (1.5, −0.25) · logit 1.98 · D = 0.88")
    assert single.evaluate(SPOKEN) == single.evaluate(VALUES)[0]
    single.press("ArrowUp", shift=True)
    assert single.evaluate(VALUES)[0].startswith("At (1.5, −0.15)")
    assert at(single).startswith("128 images"), "the clock stays"


def test_curves_follow_the_clock_and_lead_to_it(single: Browser) -> None:
    titles = "[...document.querySelectorAll('.g-chart b')].map(one => one.textContent)"
    values = "[...document.querySelectorAll('.g-values')].map(one => one.textContent)"
    assert single.evaluate(titles) == ["Modes hit, good points", "Losses", "Gradient norms", "D's mean logits"]
    assert single.evaluate(values) == ["hit 1 of 2, good 25 %", "D 1.28, G 2", "D 1.0e−4", "real 0.5, generated −1.25"]
    single.press("Home")
    assert single.evaluate(values) == ["hit 0 of 2, good 0 %", "D 0, G 2", "D 1", "real 0.5, generated −0.25"]
    # The gradient norm falls tenfold from frame to frame: a straight line on the logarithmic axis.
    path = single.evaluate("document.querySelectorAll('.g-chart')[2].querySelector('.g-curve').getAttribute('d')")
    heights = [float(part.split(" ")[1]) for part in path[1:].split("L")]
    falls = [after - before for before, after in pairwise(heights)]
    assert len(falls) == 4
    assert max(falls) - min(falls) < 0.3
    assert min(falls) > 5
    # A click into a chart moves the clock.
    single.click(".g-chart:nth-child(2) svg")
    assert at(single).startswith("32 images"), "a little right of the middle of five"


def test_sentinels_stand_on_the_time_axis_and_in_words(page: Browser) -> None:
    label = page.evaluate("document.querySelector('.g-marks button').getAttribute('aria-label')")
    assert label == "first: sign_saturation warn at 32 images: 0.8 judged real"
    assert len(page.evaluate("[...document.querySelectorAll('.g-alert')].map(one => one.getAttribute('class'))")) == 4
    listed = page.evaluate("document.querySelector('.g-alerts').textContent")
    assert listed == "first: sign_saturation warn at 32 images: 0.8 judged real. Usual remedy: ADA."
    page.click(".g-marks button")
    assert at(page) == "32 images seen"
    # Its place is that of the slider's thumb.
    middle = "(one => { const box = one.getBoundingClientRect(); return box.left + box.width / 2; })"
    mark = page.evaluate(f"{middle}(document.querySelector('.g-marks button'))")
    assert mark == pytest.approx(page.evaluate(f"{middle}(document.querySelector('input[type=range]'))"), abs=0.6)


def names(page: Browser) -> list[tuple[str, str]]:
    """(role, name) of everything that a screen reader stops at."""
    nodes: list[dict[str, Any]] = page.call("Accessibility.getFullAXTree")["nodes"]
    told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    return [
        one for one in told if one[0] in ("button", "slider", "combobox", "image", "img", "group", "heading", "main")
    ]


def test_a_screen_reader_gets_names_and_the_frame_in_words(page: Browser) -> None:
    page.call("Accessibility.enable")
    told = names(page)
    # The browser names the landmark itself by nothing.
    assert [role for role, name in told if not name] == ["main"]
    assert ("slider", "images seen, log-spaced") in told
    assert ("combobox", "speed") in told
    assert {("button", "earlier frame"), ("button", "later frame")} <= {*told}
    assert len([name for role, name in told if "The plane of the data in run" in name]) == 2
    assert page.evaluate(SPOKEN).startswith("128 images seen. first: 1 of 2 modes hit · 25 % of points good")
    assert "second: 0 of 2 modes hit" in page.evaluate(SPOKEN)
    # While it plays it is silent.
    page.evaluate("document.querySelector('.g-speed select').value = '.25'")
    spoken = page.evaluate(SPOKEN)
    page.press(" ")
    page.until(f"{CLOCK} === '16 images seen'")
    assert page.evaluate(SPOKEN) == spoken
    page.press(" ")
    assert page.evaluate(SPOKEN) != spoken


def test_the_keyboard_reaches_every_control(page: Browser) -> None:
    controls = "[...document.querySelectorAll('button, select, input, canvas')]"
    reached = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(page.evaluate(f"{controls}.length") + 2):
        page.press("Tab")
        reached.add(page.evaluate(f"{controls}.indexOf(document.activeElement)"))
    assert reached - {-1} == {*range(page.evaluate(f"{controls}.length"))}


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, False), (360, True)])
@pytest.mark.parametrize("number", [1, 2])
def test_nothing_sticks_out_and_nothing_goes_wrong(
    page: Browser, tmp_path: Path, width: int, dark: bool, number: int
) -> None:
    long = "a_run_with_a_name_that_is_longer_than_a_telephone_is_wide_and_has_no_space"
    games = [recording(long, marks=[MARK]), recording("second")][:number]
    opened(page, game_page(games).save(tmp_path / "long.html"))
    page.resize(width, 740, dark=dark)
    assert page.until(f"innerWidth === {width} && document.documentElement.scrollWidth") == width
    rights = (
        "[...document.querySelectorAll('canvas, svg, button, input')].map(one => one.getBoundingClientRect().right)"
    )
    assert max(page.evaluate(rights)) <= width
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(22, 22, 20)" if dark else "rgb(251, 250, 247)"
    )
    # The pictures are drawn anew in the other colours, and as large as they are shown.
    sizes = page.until(
        "(all => all.every(([pixels, width]) => Math.abs(pixels - width) <= 1) && all)"
        "([...document.querySelectorAll('canvas')].map(c => [c.width, c.getBoundingClientRect().width]))"
    )
    assert len(sizes) == number
    assert page.errors == []
    assert all(url.startswith("file://") and url.endswith(".html") for url in page.requests)


def test_without_scripts_the_page_says_so(browser: Browser, tmp_path: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(game_page([recording()]).save(tmp_path / "game.html").as_uri())
        told = browser.until("document.querySelector('noscript') && document.body.innerText")
        assert "switched off here" in told
        assert "After 128 images, 1 of 2 modes hit." in told
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
