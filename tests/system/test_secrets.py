"""Tokens in addresses of data: a real run over HTTP with basic authentication and a signed query leaves none behind."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import pytest

from framework.data.errors import DataError
from framework.data.fetch import FetchOptions
from framework.data.inspection import report_on
from framework.data.stream import open_stream
from framework.recipe.description import describe
from framework.review import read_run, write_report
from framework.utils.redaction import redact_text, redact_urls
from tests.helpers.launch import ROOT, TINY, Launch
from tests.helpers.play import small_recipe

USER, PASSWORD, SIGNATURE = "reader", "p@ss/w?rd", "c2lnbmF0dXJlIG9mIGEgVVJM"
PLACE = "9f86d081884c7d659a2feaa0c55ad015"
"""A folder whose name is the permission to read it."""
FORMS = (PASSWORD, quote(PASSWORD, safe=""), SIGNATURE, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(), PLACE)
SHARDS = "train-{000000..000001}.tar"


@pytest.fixture
def store() -> Iterator[str]:
    """`host:port` of a server that gives the vendored shards to who knows password and signature."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(ROOT / "recipes/data/fashion_mnist"))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            begin, place, rest = self.path.partition(f"/{PLACE}")
            self.path = begin + rest
            right = bool(place) and self.headers.get("Authorization") == f"Basic {FORMS[3]}"
            if not right or urlsplit(self.path).query != f"sig={SIGNATURE}":
                self.send_error(403 if right else 401)
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def address(store: str, *, signature: str = SIGNATURE, password: str = PASSWORD) -> str:
    return f"http://{USER}:{quote(password, safe='')}@{store}/{PLACE}/{SHARDS}?sig={signature}"


def leaks(text: str) -> list[str]:
    return [form for form in FORMS if form in text]


def leaking_files(*folders: Path) -> list[str]:
    """Files that hold a secret in any form, or bear it in their name."""
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert found
    return [str(path) for path in found if leaks(path.read_bytes().decode("latin-1") + path.name)]


@pytest.mark.slow
@pytest.mark.distributed
def test_a_run_leaves_no_token_behind(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, cache = tmp_path / "runs/a", tmp_path / "cache"
    flags = ["--images", "96", "--save-every-images", "32", "--log-every-images", "16", "--sample-every-images", "32"]
    flags += ["--out", str(out), "--cache-folder", str(cache), "--data", address(store)]
    children: dict[int, str] = {}
    with Launch(TINY, *flags, world=1, log=tmp_path / "log") as launch:
        trainer = psutil.Process(launch.process.pid)
        own = trainer.cmdline()

        def ended() -> bool:
            with contextlib.suppress(psutil.Error):  # one that has just ended
                for child in trainer.children(recursive=True):
                    if child.cmdline() != own:  # until its program begins, a child shows its parent's
                        children[child.pid] = "\n".join([*child.cmdline(), *child.environ().values()])
            return launch.process.poll() is not None

        while not ended():
            time.sleep(0.02)
        assert launch.process.returncode == 0, launch.text()
    assert any("framework.tracking.upload" in text for text in children.values())
    assert [text for text in children.values() if leaks(text)] == []
    page = write_report(tmp_path / "report.html", [read_run(out)])
    assert page.stat().st_size > 1000
    assert (out.parent / "mlflow.db").stat().st_size > 100_000
    # Log of the launch, of the upload, journal, recipe, checkpoints, report, MLflow: all are there to be looked at.
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    run = {f"runs/a/{name}" for name in ("journal.jsonl", "recipe.json", "tracking/upload.log", "checkpoints/96")}
    files = {f"runs/a/checkpoints/96/{name}" for name in ("manifest.json", "recipe.json", "science.json")}
    assert left >= {"log", "report.html", "runs/mlflow.db", *run, *files}
    assert leaking_files(tmp_path) == []
    assert f"http://***@{store}/***/{SHARDS}?***" in (out / "journal.jsonl").read_text()
    assert (out / "checkpoints/96/recipe.json").is_file()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"signature": SIGNATURE[:-1]}, "403"),
        ({"password": PASSWORD + "x"}, "401"),
        ({}, "pictures are 32x32, not 24x24"),
    ],
    ids=["signature", "password", "resolution"],
)
def test_errors_name_the_address_without_its_token(store: str, tmp_path: Path, how: dict[str, str], says: str) -> None:
    with pytest.raises(DataError, match=says) as refused:
        open_stream(
            address(store, **how), resolution=24, channels=1, classes=0, seed=0, cache_folder=tmp_path / "cache",
            fetch=FetchOptions(retries=0),
        )  # fmt: skip
    text = str(refused.value)
    assert f"http://***@{store}/***/train-" in text
    assert not leaks(text + repr(refused.value))
    assert SIGNATURE[:-1] not in text


def test_a_command_is_shown_by_its_shard_only(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shard pipe:\*\*\*a\.tar: not fetched.*status 3") as refused:
        open_stream(
            f"pipe:cat a.tar {SIGNATURE} 2>/dev/null; exit 3", resolution=8, channels=1, classes=0, seed=0,
            cache_folder=tmp_path, fetch=FetchOptions(retries=0),
        )  # fmt: skip
    assert SIGNATURE not in str(refused.value)


def test_what_is_reported_and_described_has_no_token(store: str, tmp_path: Path) -> None:
    assert not leaks(repr(report_on(address(store), cache_folder=tmp_path)))


def test_a_recipe_that_names_the_data_is_described_without_its_token(store: str) -> None:
    recipe = small_recipe()
    named = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, location=address(store)))
    assert describe(named)["data"]["location"] == f"http://***@{store}/***/{SHARDS}?***"
    assert not leaks(repr(describe(named)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://{USER}:{PASSWORD.replace('/', '')}@h/a", "https://***@h/a"),
        ("https://h/a?X-Amz-Signature=1&X-Amz-Credential=2", "https://h/a?***"),
        ("shard https://h/a.tar?sig=1: HTTP status 403", "shard https://h/a.tar?***: HTTP status 403"),
        ("at https://h/a?sig=1, then https://u:p@h/b#t=2.", "at https://h/a?***, then https://***@h/b?***."),
        ("('https://h/a?sig=1')", "('https://h/a?***')"),
        ("https://h/s/aB3dE5fG7hI9jK1lM/a.tar", "https://h/s/***/a.tar"),
        ("https://h/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0/a.tar: 403", "https://h/***/a.tar: 403"),
        ("https://h/123e4567-e89b-12d3-a456-426614174000/a.tar", "https://h/***/a.tar"),
        ("https://h/9f86d081884c7d659a2feaa0c55ad015.tar", "https://h/***.tar"),
        ("https://h/token=abc;v=1/access_key=x/a.tar", "https://h/token=***;v=1/access_key=***/a.tar"),
        ("https://h/imagenet128-2012/ImageNet2012/train-{000000..000012}.tar",) * 2,
        ("http://127.0.0.1:80/fashion_mnist_32x32_train-000001-of-000100.tar",) * 2,
        ("/data/9f86d081884c7d659a2feaa0c55ad015/a.tar",) * 2,  # no address
        ("/data/train-{000000..000003}.tar", "/data/train-{000000..000003}.tar"),
        ("what? nothing @ all", "what? nothing @ all"),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert redact_urls(text) == redact_text(text) == shown
    assert redact_urls(shown) == shown
