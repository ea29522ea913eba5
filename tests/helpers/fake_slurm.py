"""Slurm as one batch script sees it, on this machine: `srun` and `scontrol` on the PATH, and a queue of one job.

`srun` starts its command once per node, treats signals as the real one (22.05) was seen to do, and ends all tasks when
one fails.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.helpers.launch import ROOT, environment

SCRIPT = ROOT / "launch/slurm/train.sbatch"

SRUN = '''#!{python}
"""srun [options] command ...: one task per node, here on this machine."""
import os, signal, subprocess, sys, time

arguments = sys.argv[1:]
while arguments[0].startswith("--"):
    arguments.pop(0)
nodes = int(os.environ["SLURM_JOB_NUM_NODES"])
tasks = [
    subprocess.Popen(arguments, env=os.environ | {{"SLURM_NODEID": str(node)}}, start_new_session=True)
    for node in range(nodes)
]
open(os.environ["FAKE_SLURM"] + "/tasks", "w").write(" ".join(str(task.pid) for task in tasks))

def forward(number, frame):
    for task in tasks:
        task.send_signal(number)

def kill(number, frame):  # as the real one: "srun: forcing job termination"
    for task in tasks:
        os.killpg(task.pid, signal.SIGKILL)

signal.signal(signal.SIGUSR1, forward)
signal.signal(signal.SIGTERM, kill)
signal.signal(signal.SIGHUP, kill)
while any(task.poll() is None for task in tasks):
    if any(task.poll() for task in tasks):  # --kill-on-bad-exit
        for task in tasks:
            if task.poll() is None:
                os.killpg(task.pid, signal.SIGKILL)
    time.sleep(0.05)
sys.exit(max(abs(task.returncode) for task in tasks))
'''

SCONTROL = """#!/bin/sh
case "$1" in
    show) for node in $(seq "$SLURM_JOB_NUM_NODES"); do echo 127.0.0.1; done ;;
    requeue) echo "$2" >> "$FAKE_SLURM/requeued" ;;
    *) exit 1 ;;
esac
"""


class Job:
    """One job: the batch script, started again whenever it is in the queue."""

    def __init__(self, folder: Path, *arguments: str, nodes: int, job_id: int) -> None:
        self.folder, self.arguments, self.restarts = folder, arguments, 0
        self.log = folder / "job.log"
        tools = folder / "bin"
        tools.mkdir(parents=True)
        for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self._environment = environment() | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "FAKE_SLURM": str(folder),
            "SLURM_SUBMIT_DIR": str(ROOT),
            "SLURM_JOB_ID": str(job_id),
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_NNODES": str(nodes),
            "SLURM_JOB_NODELIST": f"node[0-{nodes - 1}]",
            "PROCESSES_PER_NODE": "1",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """As Slurm does, run a copy of the script from another folder."""
        spool = self.folder / "slurm_script"
        spool.write_bytes(SCRIPT.read_bytes())
        spool.chmod(0o755)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(spool), *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment | {"SLURM_RESTART_COUNT": str(self.restarts)},
                cwd=self.folder,
                start_new_session=True,
            )

    def text(self) -> str:
        """The job's log over all starts."""
        return self.log.read_text()

    def until(self, text: str, *, timeout_seconds: float = 180.0) -> None:
        """Wait for `text` in the log."""
        assert self.process is not None
        deadline = time.monotonic() + timeout_seconds
        while text not in self.text():
            assert self.process.poll() is None, f"it ended first:\n{self.text()}"
            assert time.monotonic() < deadline, f"no {text!r}:\n{self.text()}"
            time.sleep(0.02)

    def wait(self, *, timeout_seconds: float = 240.0) -> int:
        """The script's exit status."""
        assert self.process is not None
        return self.process.wait(timeout_seconds)

    def requeued(self) -> bool:
        """Whether the script asked to be queued again, which counts as a restart."""
        marker = self.folder / "requeued"
        if not marker.exists():
            return False
        marker.unlink()
        self.restarts += 1
        return True

    def signal_script(self, number: signal.Signals) -> None:
        """`--signal=B:...`: to the batch script alone."""
        assert self.process is not None
        self.process.send_signal(number)

    def signal_step(self, number: signal.Signals) -> None:
        """To every process of the job step, as Slurm without control groups does; the script is not told."""
        for pid in map(int, (self.folder / "tasks").read_text().split()):
            task = psutil.Process(pid)
            for process in [*task.children(recursive=True), task]:
                process.send_signal(number)

    def end(self) -> None:
        """SIGKILL to everything that is left."""
        if self.process is not None and self.process.poll() is None:
            family = psutil.Process(self.process.pid)
            for process in [*family.children(recursive=True), family]:
                process.kill()
            self.process.wait()
