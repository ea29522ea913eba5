"""The page of `framework review --out` and MLflow's page, looked at in a real browser; a server behind a password."""

from __future__ import annotations

import base64
import importlib.util
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from framework.commands.review import links
from framework.commands.sync import upload_now
from framework.review import read_run, write_report
from framework.tracking.destination import destination
from framework.tracking.records import read_journal
from framework.tracking.server import free_port, mlflow_server
from framework.utils.errors import FrameworkError
from tests.helpers.auth_proxy import AuthProxy
from tests.helpers.browser import EXECUTABLE, WHY_NOT, Browser
from tests.helpers.launch import TINY, environment, run
from tests.helpers.run_folders import FID, fid, show_all_kinds, write_run, write_scores

pytestmark = pytest.mark.timeout(400)
NEEDS_BROWSER = pytest.mark.skipif(EXECUTABLE is None, reason=WHY_NOT)

HOSTILE = "b<img src=x onerror='window.broken=1'>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review")
    for name in ("a", "b"):
        many = {"steps": range(40, 641, 40), "grids": (0, 320, 640) if name == "a" else (0, 160, 480)}
        uri = f"sqlite:///{folder / 'mlflow.db'}" if name == "a" else None
        tracker = write_run(folder / name, uri=uri, name=name if name == "a" else HOSTILE, status=None, **many)
        tracker.health("sign_saturation", "warn", images_seen=400, reason="0.8 of real images judged real")
        if name == "b":
            tracker.resumed(images_seen=320)
        write_scores(folder / name, 320, {"fid50k": fid(40.0)})
        write_scores(folder / name, 640, {"fid50k": fid(30.0)})
        tracker.finish("FINISHED", wait_seconds=240)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser") / "profile") as browser:
        yield browser


@pytest.fixture(scope="module")
def report(runs: Path, browser: Browser) -> Browser:
    out = runs / "report.html"
    done = subprocess.run(
        [sys.executable, "-m", "framework", "review", str(runs), "--out", str(out)],
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r".*report\.html \(0\.\d MB\)\n", done.stdout), done.stdout
    browser.open(out.as_uri())
    browser.until("document.documentElement.dataset.ready")
    return browser


def grid_sources(page: Browser) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('[data-strip] img')].map(image => image.src)")


@NEEDS_BROWSER
def test_curves_are_drawn_and_say_their_values(report: Browser) -> None:
    titles = report.evaluate("[...document.querySelectorAll('.chart figcaption')].map(e => e.textContent)")
    assert titles[:2] == [f"fid50k · {FID['hash']}", "Adversarial losses"]
    paths = report.evaluate(
        "[...document.querySelectorAll('.chart')].map(c => [...c.querySelectorAll(':scope > svg .line')]"
        ".map(p => p.getAttribute('d')))"
    )
    assert [len(lines) for lines in paths[:2]] == [2, 4], "two runs; two losses of two runs"
    for d in [d for lines in paths for d in lines]:
        assert re.fullmatch(r"M[\d. ]+(L[\d. ]+)*", d), f"not only numbers: {d}"
    # The loss of D rises from 0.4 to 6.4 in a straight line.
    numbers = [float(n) for n in re.findall(r"[\d.]+", paths[1][0])]
    ys, slopes = numbers[1::2], [b - a for a, b in zip(numbers[1::2], numbers[3::2], strict=False)]
    assert len(ys) == 16
    assert max(slopes) < 0
    assert max(slopes) - min(slopes) < 0.3, "a straight line, drawn to a tenth of a pixel"
    report.evaluate("document.querySelectorAll('.chart')[1].scrollIntoView({block: 'center', behavior: 'instant'})")
    x, y = report.evaluate(
        "(() => { const chart = document.querySelectorAll('.chart')[1].querySelector(':scope > svg');"
        " const box = chart.getBoundingClientRect(); return [box.left + 55, box.top + 90]; })()"
    )
    first = "document.querySelectorAll('.chart')[1].querySelector('.legend b').textContent"
    assert report.evaluate(first) == "6.4"
    report.move(x, y)
    assert report.until(f"{first} !== '6.4' && {first}") == "0.4"
    assert report.evaluate("document.querySelectorAll('.resume').length") > 0


@NEEDS_BROWSER
def test_the_slider_moves_all_runs_by_keyboard(report: Browser) -> None:
    text = "document.getElementById('clock-text').textContent"
    at = "[...document.querySelectorAll('.at')].map(e => e.textContent)"
    assert report.evaluate(text) == "640 images"
    assert report.evaluate(at) == ["at 640 images", "at 480 images"]
    last = grid_sources(report)
    report.evaluate("document.getElementById('clock').focus()")
    report.press("ArrowLeft")
    assert report.until(f"{text} !== '640 images' && {text}") == "480 images"
    assert report.evaluate(at) == ["at 320 images", "at 480 images"]
    assert grid_sources(report)[0] != last[0]
    assert grid_sources(report)[1] == last[1]
    report.press("Home")
    assert report.until(f"{text} === '0 images' && {text}")
    report.press("End")
    assert report.until(f"{text} === '640 images' && {text}")
    assert grid_sources(report) == last
    shown = report.evaluate("[...document.images].filter(i => i.className === 'grid').map(i => i.naturalWidth)")
    assert shown == [60, 60, 60], "two runs and the real images"


@NEEDS_BROWSER
def test_scale_and_legend_are_switches(report: Browser) -> None:
    chart = "document.querySelectorAll('.chart')[0]"
    path = f"{chart}.querySelector(':scope > svg .line').getAttribute('d')"
    before = report.evaluate(path)
    report.evaluate(f"{chart}.querySelector('.scale').click()")
    assert report.evaluate(path) != before
    report.evaluate(f"{chart}.querySelector('.scale').click()")
    assert report.evaluate(path) == before
    report.evaluate(f"{chart}.querySelector('.legend button').click()")
    assert report.evaluate(f"{chart}.querySelectorAll(':scope > svg .line').length") == 1
    report.evaluate(f"{chart}.querySelector('.legend button').click()")


@NEEDS_BROWSER
@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_sticks_out_and_nothing_goes_wrong(report: Browser, width: int) -> None:
    report.resize(width, 844, dark=width == 390)
    try:
        assert report.until(f"innerWidth === {width} && document.documentElement.scrollWidth") == width
        rights = "[...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect().right)"
        assert max(report.evaluate(rights)) <= width
    finally:
        report.resize(1440, 900)
    assert report.evaluate("window.broken") is None, "a name was taken for markup"
    assert HOSTILE in report.evaluate("document.body.innerText")
    assert report.errors == []
    assert all(url.startswith("file://") and url.endswith("/report.html") for url in report.requests)


GREEN = "rgb(0, 200, 0)"
# What a page from elsewhere may try: its own look is red if any of its scripts ran.
ATTACKS = """<!doctype html><title>page</title>
<meta http-equiv="refresh" content="0;url=http://127.0.0.1:PORT/refresh">
<body style="margin: 0; background: rgb(0, 200, 0)" onload="document.body.style.background = 'red'">
<script>document.body.style.background = "red"; parent.broken = 1; top.location = "http://127.0.0.1:PORT/"</script>
<img src="http://127.0.0.1:PORT/picture" onerror="document.body.style.background = 'red'; parent.broken = 1">
<img src="data:," onerror="document.body.style.background = 'red'; parent.broken = 1">
<style>@import "http://127.0.0.1:PORT/style"; p { background: url(http://127.0.0.1:PORT/paper) }</style><p>a page</p>
<form action="http://127.0.0.1:PORT/form" target="_top"><button>send</button></form>
<a href="http://127.0.0.1:PORT/top" target="_top">top</a> <a href="javascript:parent.broken=1">script</a>
<a href="http://127.0.0.1:PORT/own">own</a> <a href="http://127.0.0.1:PORT/new" target="_blank">new</a>
"""


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """A place that nothing on a page may connect to; `accept` does not wait."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.setblocking(False)
        yield found


@pytest.fixture(scope="module")
def kinds(runs: Path, listener: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has shown each kind of media at two clocks, in the database of the others."""
    folder = tmp_path_factory.mktemp("kinds") / "kinds"
    tracker = write_run(folder, uri=f"sqlite:///{runs / 'mlflow.db'}", status=None, grids=(), checkpoints=())
    for images in (0, 640):  # MLflow's slider begins at the first
        show_all_kinds(tracker, images_seen=images, page=ATTACKS.replace("PORT", str(listener.getsockname()[1])))
    assert tracker.finish("FINISHED", wait_seconds=240) is None
    return folder


@NEEDS_BROWSER
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_all_kinds_are_seen_and_heard_and_foreign_scripts_run_nowhere(
    kinds: Path, listener: socket.socket, tmp_path: Path, width: int, height: int
) -> None:
    out = write_report(tmp_path / "report.html", [read_run(kinds)])
    with Browser(tmp_path / "profile", width=width, height=height) as page:
        page.open(out.as_uri())
        page.until("document.documentElement.dataset.ready")
        # Pictures and the plot have their own size, and are as wide as there is room.
        pictures = "[...document.querySelectorAll('img.grid')].map(i => [i.className, i.naturalWidth])"
        shown = page.until(f"{pictures}.every(([, width]) => width) && {pictures}")
        assert shown == [["grid", 102], ["grid plot", 768], ["grid", 60]]
        assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing sticks out"
        # The players have their clips, at both clocks.
        page.evaluate("document.querySelector('.sounds').scrollIntoView({block: 'start', behavior: 'instant'})")
        for key, at, seconds in (("End", "at 640 images", 0.58), ("ArrowLeft", "at 0 images", 0.5)):
            page.evaluate("document.getElementById('clock').focus({preventScroll: true})")
            page.press(key)
            page.until(f"[...document.querySelectorAll('.at')].every(e => e.textContent === '{at}')")
            players = "[document.title, [...document.querySelectorAll('audio')].map(a => [a.duration, a.error])]"
            await_frames(page, players, wanted=["Held-out tones", [[seconds, None]] * 2])
        # The foreign page shows itself, and neither its scripts nor what it names from outside were tried.
        await_frames(page, "[document.title, getComputedStyle(document.body).backgroundColor]", wanted=["page", GREEN])
        time.sleep(1)  # for whatever would happen
        assert heard(listener) == []
        # Its links and buttons ask for nothing either (the browser may prepare a connection before it refuses).
        page.in_frames("document.title === 'page' && document.querySelectorAll('a, button').forEach(e => e.click())")
        time.sleep(1)
        assert set(heard(listener)) <= {b""}
        assert page.evaluate("[window.broken ?? null, location.href]") == [None, out.as_uri()]


def heard(listener: socket.socket) -> list[bytes]:
    """What each connection so far has asked for."""
    found = []
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return found
        with connection:
            connection.settimeout(0.5)
            try:
                found.append(connection.recv(1000))
            except TimeoutError:
                found.append(b"")


def await_frames(page: Browser, script: str, *, wanted: object) -> None:
    deadline = time.monotonic() + 60
    while wanted not in (found := page.in_frames(script)):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


@pytest.fixture(scope="module")
def server(runs: Path, kinds: Path) -> Iterator[str]:
    with mlflow_server(runs / "mlflow.db", port=free_port(5950), log=runs / "server.log") as url:
        yield url


@NEEDS_BROWSER
def test_mlflow_shows_all_kinds_and_the_models(runs: Path, kinds: Path, browser: Browser, server: str) -> None:
    pages = links(runs / "a", uri=f"sqlite:///{runs / 'mlflow.db'}", url=server)
    browser.resize(1440, 4000)  # sections below the window are not drawn
    browser.open(pages["charts"])
    # The preview of the 60 x 40 grid is 720 x 480.
    browser.until("[...document.images].some(image => image.naturalWidth === 720)", timeout_seconds=150)
    # A plot is on the same slider; sounds are a page among the artifacts.
    pages_of_kinds = links(kinds, uri=f"sqlite:///{runs / 'mlflow.db'}", url=server)
    browser.open(pages_of_kinds["charts"])
    browser.until("[...document.images].some(image => image.naturalWidth === 768)", timeout_seconds=150)
    run_id = pages_of_kinds["charts"].partition("/runs/")[2].partition("/")[0]
    stored = f"{server}/get-artifact?path=samples/speech-000000640.html&run_uuid={run_id}"
    with urllib.request.urlopen(stored, timeout=60) as answer:
        assert answer.read() == (kinds / "samples/speech-000000640.html").read_bytes()
    browser.open(pages["compare"].partition("/runs?")[0] + "/models?workflowType=machine_learning")
    models = "['a-320', 'a-640'].every(name => document.body.innerText.includes(name))"
    browser.until(models, timeout_seconds=100)


SECRET = "pa/ss w0rd:9f3c"


def leaks(*places: Path) -> list[str]:
    """Files that hold the secret, in any of the forms in which it travels."""
    forms = [SECRET, quote(SECRET, safe=""), base64.b64encode(f"me:{SECRET}".encode()).decode()]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*")) if file.is_file()]
    assert len(files) > len(places)
    return [f"{file}: {form}" for file in files for form in forms if form.encode() in file.read_bytes()]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that only those trust who are told to, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem", folder / "key.pem"


def test_no_secret_is_written_anywhere(
    runs: Path, server: str, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(server.rpartition(":")[2])
    here = tmp_path / "runs"
    with AuthProxy(port, user="me", password=SECRET) as proxy:
        uri = f"http://me:{quote(SECRET, safe='')}@{proxy.address}"
        flags = ("--images", "64", "--save-every-images", "32", "--tracking", uri, "--out", str(here / "in_uri"))
        run(TINY, *flags, world=1, log=tmp_path / "log")
        with pytest.raises(FrameworkError, match="is not kept in the run"):
            destination(here / "in_uri", given=None, recorded=True)
        assert upload_now(here / "in_uri", uri=uri).status == "FINISHED"
        # A wrong password is refused, and the message does not hold it.
        write_run(here / "refused", uri=None, checkpoints=())
        with pytest.raises(FrameworkError, match="401") as refused:
            upload_now(here / "refused", uri=uri.replace("@", "x@"), patience_seconds=1)
        assert quote(SECRET, safe="") not in str(refused.value)
        assert SECRET not in str(refused.value)
        assert proxy.num_passed > 10
        assert proxy.num_refused > 0
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate[0]))
    with AuthProxy(port, user="me", password=SECRET, certificate=certificate) as proxy:
        write_run(here / "in_environment", uri=f"https://{proxy.address}", checkpoints=())
        told = destination(here / "in_environment", given=None, recorded=True)
        assert upload_now(here / "in_environment", uri=told).status == "FINISHED"
        assert proxy.num_passed > 5
    assert leaks(here, tmp_path / "log", runs / "mlflow.db", runs / "server.log") == []
    told = {r["kind"]: r for _, r in read_journal(here / "in_uri/journal.jsonl") if r["kind"] in ("dataset", "start")}
    assert told["start"]["uri"] == uri.replace(quote(SECRET, safe=""), "***")
    assert (told["dataset"]["name"], told["dataset"]["profile"]["count"]) == ("fashion_mnist", 1750)
    tags = read_run(here / "in_uri").tags
    assert (tags["framework.engine"], tags["framework.world_size"]) == ("ddp", "1")
    if importlib.util.find_spec("av"):
        assert (here / "in_uri/videos/walk-000000064.mp4").stat().st_size > 1000
