"""The page itself: nothing unescaped, nothing loaded, bounded, and no two protocols on one line."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from framework.media import Sounds
from framework.media.markup import Html, join, tag
from framework.review import read_run, write_report
from framework.review.page import render
from framework.review.panels import charts, thinned
from framework.review.pictures import AS_IT_IS_BYTES, BUDGET_BYTES, MAX_SIDE, encode, spread, strip
from framework.review.run import Shown
from framework.tracking import Tracker
from framework.utils.errors import FrameworkError
from tests.helpers.run_folders import (
    FID,
    OTHER_FID,
    RECIPE,
    fid,
    picture,
    show_all_kinds,
    write_run,
    write_scores,
)

SCRIPT = "<script>parent.broken = top.broken = 1; document.body.textContent = 'script'</script>"
HOSTILE = "</script><img src=x onerror=alert(1)>&<b>'\""


class Page(HTMLParser):
    """Elements, and the text of scripts apart from the text that shows."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.shown, self.scripts = "", []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        self._in_script = name in ("script", "style")
        if name == "script":
            self.scripts.append("")

    def handle_endtag(self, name: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script and self.elements[-1][0] == "script":
            self.scripts[-1] += data
        elif not self._in_script:
            self.shown += data

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0])


def test_markup_escapes_what_is_not_markup() -> None:
    assert tag("p", "<b>", tag("i", "&")) == "<p>&lt;b&gt;<i>&amp;</i></p>"
    assert tag("img", alt='"><script>') == '<img alt="&quot;&gt;&lt;script&gt;">'
    assert tag("input", min=0, max=None, checked=True, disabled=False) == '<input min="0" checked>'
    assert isinstance(join("<", Html("<hr>")), Html)
    assert join("<", Html("<hr>")) == "&lt;<hr>"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    recipe = RECIPE | {"name": HOSTILE, "paper": HOSTILE, "class_names": [HOSTILE], HOSTILE: HOSTILE}
    tracker = write_run(tmp_path / "a", name=HOSTILE, recipe=recipe, status=None)
    tracker.tags({"framework.command": HOSTILE, "framework.data_location": HOSTILE})
    tracker.health("watched", "failing", images_seen=40, reason=HOSTILE, remedy=HOSTILE)
    tracker.journal.write("metrics", {"images": 50, "values": {f"loss/{HOSTILE}": 1.0}})
    tracker.journal.write("image", {"key": f"samples/{HOSTILE}", "images": 1, "file": "samples/ema-000000320.png"})
    tracker.finish("FINISHED")
    write_scores(tmp_path / "a", 320, {HOSTILE: {"value": 1.0, "protocol": {HOSTILE: HOSTILE}}})
    write_run(tmp_path / "b")
    text = render([read_run(tmp_path / "a"), read_run(tmp_path / "b")])
    assert HOSTILE not in text
    assert "<img src=x" not in text
    page = Page(text)
    assert len(page.scripts) == 2
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]
    assert page.shown.count("<img src=x onerror=alert(1)>") >= 10, "it is shown as what it is"
    assert page.data["runs"][0]["name"] == HOSTILE


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    out = write_report(tmp_path / "new" / "report.html", [read_run(tmp_path / "a")])
    page = Page(out.read_text())
    policy = [a["content"] for name, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == [
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    ]
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert str(attributes.get(name) or "#").startswith(("data:", "#")), attributes
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", out.read_text())
    assert [path.name for path in out.parent.iterdir()] == ["report.html"], "no half-written file is left"


def test_all_kinds_are_shown_and_pages_only_in_frames_without_scripts(tmp_path: Path) -> None:
    tracker = write_run(tmp_path / "a", grids=(), checkpoints=(), status=None)
    for images in (320, 640):
        show_all_kinds(tracker, images_seen=images, page=f"<!doctype html><p>{images}</p>{SCRIPT}")
    tracker.finish("FINISHED")
    text = render([read_run(tmp_path / "a")])
    page = Page(text)
    frames = [attributes for name, attributes in page.elements if name == "iframe"]
    assert [frame["sandbox"] for frame in frames] == ["", ""]
    assert [frame["class"] for frame in frames] == ["frame sounds", "frame page"]
    assert frames[1]["title"] == "generated · samples/table: a table of neighbours"
    assert frames[1]["srcdoc"] == f"<!doctype html><p>640</p>{SCRIPT}"
    assert (frames[0]["srcdoc"] or "").encode() == (tmp_path / "a/samples/speech-000000640.html").read_bytes()
    # The page's own markup has its own scripts only; earlier pages wait as text in its data.
    assert len(page.scripts) == 2
    assert SCRIPT not in text
    assert page.data["strips"][3] == {"images": [320, 640], "sources": [f"<!doctype html><p>320</p>{SCRIPT}"]}
    pictures = {a["alt"]: a for name, a in page.elements if name == "img" and a.get("class")}
    plot = pictures["generated · samples/ring: Ring: real (100 points); generated (100 points)"]
    assert (plot["class"], plot["style"]) == ("grid plot", "max-width: 768px"), "words are not blown up"
    pairs = "generated · samples/pairs: pairs: 6 pictures of 12 x 8 pixels, in columns input, output"
    assert pictures[pairs]["style"] == "max-width: 320px", "a narrow grid is not blown up to the whole column"
    assert "2 grids, 2 plots, 2 sets of sounds, 2 pages" in page.shown


def test_sounds_alone_have_the_slider_too(tmp_path: Path) -> None:
    tracker = Tracker.open(tmp_path / "a", uri=None, experiment="tiny", run_name="a")
    tracker.show("samples/speech", Sounds([[0.0, 0.5]], sample_rate=8), images_seen=64)
    tracker.finish("FINISHED")
    page = Page(render([read_run(tmp_path / "a")]))
    names = [name for name, attributes in page.elements if attributes.get("id") == "clock"]
    assert names == ["input"]
    assert [a["title"] for name, a in page.elements if name == "iframe"] == [
        "generated: 1 sound clip of 0.25 s at 8 Hz: clip 1"
    ]


def test_foreign_pages_that_reach_out_or_are_none_are_named(tmp_path: Path) -> None:
    tracker = write_run(tmp_path / "a", grids=(), checkpoints=(), status=None)
    show_all_kinds(tracker, images_seen=64)
    files = {"link": b"<LINK rel=preconnect href=//x>", "bytes": b"\xff\xfe<p>", "large": b" " * (BUDGET_BYTES + 1)}
    for images, (name, content) in enumerate(files.items(), start=100):
        (tmp_path / "a" / f"{name}.html").write_bytes(content)
        record = {"key": "samples/table", "images": images, "file": f"{name}.html", "form": "page"}
        tracker.journal.write("media", record)
    tracker.journal.write("media", {"key": "samples/x", "images": 1, "file": "link.html", "form": "hologram"})
    tracker.journal.write("media", {"key": "samples/x", "images": 1, "file": "../x.html", "form": "page"})
    tracker.finish("FINISHED")
    page = Page(render([read_run(tmp_path / "a")]))
    told = ("<link>, which reaches out", "is damaged (UnicodeDecodeError", "more than the", "('hologram') is unknown")
    for text in (*told, "'../x.html' lies outside the run folder"):
        assert text in page.shown, text
    assert "preconnect" not in str(page.elements)
    kept = [attributes["srcdoc"] for _, attributes in page.elements if attributes.get("class") == "frame page"]
    assert kept == ["<!doctype html><p>a page</p>"]


def test_facts_samples_and_tables(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_scores(tmp_path / "a", 320, {"fid50k": fid(20.0)})
    write_scores(tmp_path / "a", 640, {"fid50k": fid(25.0)})
    page = Page(render([read_run(tmp_path / "a")]))
    for text in ("finished", "640 of 640", "ddp", "fp32", "0123456789ab", "100 images", "none: a test", "lanczos"):
        assert text in page.shown, text
    assert page.data["strips"][0]["images"] == [0, 320, 640]
    assert len(page.data["strips"][0]["sources"]) == 2, "the last grid is in the page itself"
    assert len([1 for name, a in page.elements if name == "img" and a.get("class") == "grid"]) == 2
    rows = re.findall(r"(\d+) \S+ B|fid50k", page.shown)
    assert rows
    assert "20" in page.shown.partition("best")[0] or "20at 320" in page.shown


def test_two_protocols_never_share_a_line_or_a_row(tmp_path: Path) -> None:
    for name, protocol in (("a", FID), ("b", OTHER_FID)):
        write_run(tmp_path / name)
        write_scores(tmp_path / name, 320, {"fid50k": fid(20.0, protocol)})
        write_scores(tmp_path / name, 640, {"fid50k": fid(15.0, FID)})
    runs = [read_run(tmp_path / name) for name in ("a", "b")]
    drawn = {chart["title"]: chart["lines"] for chart in charts(runs) if chart["group"] == "Evaluation"}
    assert drawn.keys() == {"fid50k · 1a2b3c4d", "fid50k · 5e6f7a8b"}
    assert [(line["run"], line["x"]) for line in drawn["fid50k · 1a2b3c4d"]] == [(0, [320, 640]), (1, [640])]
    assert [(line["run"], line["x"]) for line in drawn["fid50k · 5e6f7a8b"]] == [(1, [320])]
    assert "Measured under more than one protocol, not comparable between rows: fid50k." in Page(render(runs)).shown


def test_differences_between_recipes_come_first(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", recipe=RECIPE | {"seed": 1})
    shown = Page(render([read_run(tmp_path / "a"), read_run(tmp_path / "b")])).shown
    assert "1 of 6 settings differ." in shown
    assert shown.index("seed01") < shown.index("All 6 settings")


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for parent in ("x", "y"):
        write_run(tmp_path / parent / "a", grids=(), checkpoints=())
    data = Page(render([read_run(tmp_path / "x/a"), read_run(tmp_path / "y/a")])).data
    assert [run["name"] for run in data["runs"]] == ["x/a", "y/a"]


def test_an_empty_run_and_too_many(tmp_path: Path) -> None:
    Tracker.open(tmp_path / "a", uri=None, experiment="tiny", run_name="a").finish("FAILED")
    run = read_run(tmp_path / "a")
    shown = Page(render([run])).shown
    for text in ("No sample grid", "No metric", "No checkpoint", "No evaluation", "No sentinel", "failed"):
        assert text in shown, text
    with pytest.raises(FrameworkError, match="1 to 8 runs, these are 9"):
        render([run] * 9)


def grid(path: Path) -> Shown:
    return Shown(path=path, form="pictures")


def decoded(uri: str) -> tuple[str, bytes]:
    """The media type and the bytes of a data URI."""
    head, _, text = uri.partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(text)


def test_long_series_keep_their_spikes() -> None:
    points = dict.fromkeys(range(100000), 1.0) | {77_777: 50.0, 3_333: -50.0}
    kept = thinned(points, most=1500)
    assert len(kept) <= 1502
    assert {(77_777, 50.0), (3_333, -50.0), (0, 1.0), (99_999, 1.0)} <= set(kept)
    assert kept == sorted(kept)


def test_images_stay_within_their_budget(tmp_path: Path) -> None:
    for number in range(90):
        Image.fromarray(picture(number).repeat(4, 0).repeat(4, 1)).save(tmp_path / f"{number}.png")
    grids = {number * 10: grid(tmp_path / f"{number}.png") for number in range(90)}
    whole = strip(grids, budget_bytes=BUDGET_BYTES)
    assert whole.images == spread(sorted(grids), most=60)
    budget = sum(len(source) for source in whole.sources) // 3
    small = strip(grids, budget_bytes=budget)
    assert sum(len(source) for source in small.sources) * 3 // 4 <= budget
    assert (small.images[0], small.images[-1], small.num_recorded) == (0, 890, 90)


def test_large_grids_are_made_smaller_and_bad_files_named(tmp_path: Path) -> None:
    Image.effect_noise((3000, 1500), 90).save(tmp_path / "large.png")
    kind, data = decoded(encode(tmp_path / "large.png").source)
    (tmp_path / "small").write_bytes(data)
    with Image.open(tmp_path / "small") as image:
        assert (kind, image.size) == ("image/webp", (MAX_SIDE, MAX_SIDE // 2))
    Image.fromarray(picture(0)).save(tmp_path / "fine.png")
    assert decoded(encode(tmp_path / "fine.png").source) == ("image/png", (tmp_path / "fine.png").read_bytes())
    assert (tmp_path / "fine.png").stat().st_size < AS_IT_IS_BYTES
    (tmp_path / "cut.png").write_bytes((tmp_path / "fine.png").read_bytes()[:-40])
    shown = {number: grid(tmp_path / f"{name}.png") for number, name in enumerate(("fine", "cut", "gone"), start=1)}
    result = strip(shown, budget_bytes=10**6)
    assert result.images == [1]
    assert len(result.notes) == 2
