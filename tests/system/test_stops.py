"""How a launch ends when it is told to stop: saved, marked, and with status 75 where the last process is ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from framework.checkpoint import list_checkpoints
from framework.runtime.stopping import STOPPED
from tests.helpers.launch import ROOT, TINY, Launch, environment, free_port

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(600)]
FLAGS = ("--images", "100k", "--log-every-images", "32", "--save-every-images", "100k", "--tracking", "none")
CONTINUES = "stopped before the end of training; the same command continues"


def hear() -> None:
    """The tests may run in the background, where a shell lets its commands ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def trained(launch: Launch) -> bool:
    return "64/100,000" in launch.text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_process_ends_with_the_status_of_a_stop(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    with Launch(TINY, *FLAGS, "--out", str(out), world=1, log=tmp_path / "log") as launch:
        launch.until(lambda: trained(launch))
        launch.process.send_signal(number)
        assert launch.wait() == STOPPED, launch.text()
    assert launch.text().splitlines()[-1] == CONTINUES
    assert (out / "PREEMPTED").exists()
    assert len(list_checkpoints(out / "checkpoints")) == 1


def test_a_launcher_s_last_line_says_that_the_same_command_continues(tmp_path: Path) -> None:
    """Torch's launcher makes status 1 of it."""
    out = tmp_path / "run"
    with Launch(TINY, *FLAGS, "--out", str(out), log=tmp_path / "log") as launch:
        launch.until(lambda: trained(launch))
        os.kill(launch.workers()[1], signal.SIGTERM)
        assert launch.wait() == 1, launch.text()
    *_, last, border = launch.text().splitlines()
    assert (last, set(border)) == (f"  traceback : {CONTINUES}", {"="})
    assert (out / "PREEMPTED").exists()


def test_before_the_first_step_it_ends_at_once_in_the_same_way(tmp_path: Path) -> None:
    """While torch is imported; while the other processes do not come; while the data is surveyed."""
    port = free_port()
    alone = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    slow = "pipe:sleep 600; cat"
    moments = {
        "imports": ((), {}, lambda process: bool(process.memory_maps()) and _maps(process, "libtorch")),
        "meeting": ((), alone, lambda process: any(c.laddr.port == port for c in process.net_connections())),
        "survey": (("--data", f"{slow} {{000..001}}.tar"), {}, lambda process: bool(process.children())),
    }
    for name, (flags, extra, reached) in moments.items():
        log, out = tmp_path / f"{name}.log", tmp_path / name
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, str(TINY), *FLAGS, *flags, "--out", str(out)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment() | extra,
                preexec_fn=hear,
            )
        try:
            children = _told_to_stop(process, reached, log=log, name=name)
        finally:
            process.kill()
        assert log.read_text().splitlines()[-1] == "stopped by SIGTERM; the same command continues"
        assert "Traceback" not in log.read_text()
        assert (out / "PREEMPTED").exists() == (name != "imports"), "the command line is read after the imports"
        alive = [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        assert not alive, "nobody waits for the source any more"


def _told_to_stop(
    process: subprocess.Popen[bytes], reached: Callable[[psutil.Process], bool], *, log: Path, name: str
) -> list[psutil.Process]:
    """Wait for the moment, send the signal and wait for the end; the children that it had."""
    seen, deadline = psutil.Process(process.pid), time.monotonic() + 180
    while not reached(seen):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"{name}: {log.read_text()}"
        time.sleep(0.02)
    children = seen.children(recursive=True)
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    assert process.wait(60) == STOPPED, f"{name}: {log.read_text()}"
    print(f"{name}: ended after {time.monotonic() - begun:.1f} s")
    return children


def _maps(process: psutil.Process, library: str) -> bool:
    return any(library in area.path for area in process.memory_maps())


def test_ranks_do_not_outlive_a_killed_launcher_and_a_plain_process_outlives_its_shell(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with Launch(TINY, *FLAGS, "--out", str(out), log=tmp_path / "log") as launch:
        launch.until(lambda: trained(launch))
        ranks = [psutil.Process(pid) for pid in launch.workers()]
        launch.process.kill()
        begun = time.monotonic()
        _, alive = psutil.wait_procs(ranks, timeout=60)
        print(f"launcher killed: its ranks ended after {time.monotonic() - begun:.1f} s")
        for process in alive:
            process.kill()
        assert not alive, launch.text()
    assert "has ended: saving and stopping" in launch.text()
    (saved,) = list_checkpoints(out / "checkpoints")
    assert (out / "PREEMPTED").exists()

    log = tmp_path / "again.log"
    images = str(saved + 64)
    line = f"{sys.executable} {TINY} --images {images} --log-every-images 16 --tracking none --out {out} >{log} 2>&1 & "
    shell = subprocess.Popen(["bash", "-c", f"{line} echo $!; sleep 600"], stdout=subprocess.PIPE, env=environment())
    assert shell.stdout is not None
    process = psutil.Process(int(shell.stdout.readline()))
    while not (log.exists() and f"resumed at {saved} images" in log.read_text()):
        assert process.is_running(), log.read_text()
        time.sleep(0.02)
    shell.kill()
    shell.communicate()
    process.wait(120)
    assert f"finished at {images} images" in log.read_text(), "and the run was not locked against the same command"


def test_an_error_under_our_own_launcher_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(ROOT / "launch/torchrun/node.sh"), str(TINY), "--out", str(tmp_path / "run"), "--set", "generator.x=1"],
        capture_output=True,
        text=True,
        env=environment() | {"PROCESSES_PER_NODE": "2", "PYTHON": sys.executable},
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("generator.x") == 1
    assert "Traceback" not in done.stderr
    assert "FAILED" not in done.stderr
