"""The Dockerfile's steps, carried out in a copy-on-write view of this system, and the image's own user at work in it.

No Docker daemon is needed, but root, overlay mounts, a Debian with apt, a package index, and minutes: so it runs only
when asked for. What it cannot show is the base image: this machine's Python stands for it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.helpers.dockerfile import Image, read
from tests.helpers.launch import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif("FRAMEWORK_TEST_DOCKER" not in os.environ, reason="minutes long; set FRAMEWORK_TEST_DOCKER=1"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for overlay mounts"),
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs a Debian system"),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("image")
    passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    made: dict[str, Image] = {}
    begun = time.monotonic()
    with ExitStack() as stack:
        for stage in read(ROOT / "docker/Dockerfile"):
            name = stage.name or "final"
            made[name] = Image(folder / name, context=ROOT, arguments={}, passed=passed)
            stack.enter_context(made[name].mounted())
            made[name].carry_out(stage, earlier=made, log=folder / "build.log")
        print(f"\nall steps carried out in {time.monotonic() - begun:.0f} s")
        yield made["final"]


def test_the_smoke_test_passes_as_the_image_s_user(image: Image) -> None:
    done = image.run(["tini", "--", "python", "-m", "framework.doctor", "--json"])
    print(done.stdout)
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert done.returncode == 0, done.stdout
    assert report["status"] in ("ok", "warn")
    (python,) = [finding["value"] for finding in report["findings"] if finding["area"] == "python"]
    assert "/opt/venv/bin/python" in python
    assert image.run(["id", "-u"]).stdout.strip() == "1000"
    assert image.run(["touch", "/workspace/recipes/x"]).returncode != 0
    # A cluster may give the container another user.
    assert image.run(["python", "-c", "import framework; print(framework.__version__)"], as_user="4711").returncode == 0


def test_training_stops_at_a_signal_to_process_1_and_continues(image: Image) -> None:
    flags = ["--images", "6k", "--log-every-images", "64", "--save-every-images", "100k", "--tracking", "none"]
    recipe = "recipes/sagan_fashion.py"
    command = ["tini", "--", "launch/torchrun/node.sh", recipe, *flags, "--out", "runs/a"]
    image.environment["PROCESSES_PER_NODE"] = "2"
    folder = image.root / "workspace/runs/a"
    begun, lines = time.monotonic(), []
    with subprocess.Popen(
        image.command(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=image.variables(),
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "128/6,000" in line:
                process.send_signal(signal.SIGTERM)
                begun = time.monotonic()
        status = process.wait()
    print(f"status {status}, {time.monotonic() - begun:.1f} s after SIGTERM")
    assert status == 75, "".join(lines)
    assert (folder / "PREEMPTED").exists()
    (saved,) = [int(path.name) for path in (folder / "checkpoints").iterdir()]
    again = image.run([*command, "--images", str(saved + 64)])
    assert again.returncode == 0, again.stdout
    assert f"resumed at {saved} images" in again.stdout
