"""The Slurm script against a fake `srun` and `scontrol` that run on this machine: preempted, requeued, continued."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from framework.checkpoint import list_checkpoints
from tests.helpers.fake_slurm import Job
from tests.helpers.launch import TINY, run, unequal

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(600)]
FLAGS = ("--images", "640", "--log-every-images", "160", "--save-every-images", "100k", "--tracking", "none")

GRACE_SECONDS = 120
"""A short one: `train.sbatch` asks for 300 s before the time limit."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on two processes, without Slurm and without interruption."""
    folder = tmp_path_factory.mktemp("straight")
    run(TINY, *FLAGS, "--out", str(folder / "run"), log=folder / "log")
    return folder / "run"


@pytest.fixture
def submit(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def begin(*arguments: str) -> Job:
        jobs.append(Job(tmp_path / "slurm", *arguments, nodes=2, job_id=1000 + len(tmp_path.name)))
        jobs[-1].start()
        return jobs[-1]

    yield begin
    for job in jobs:
        job.end()


def by_time_limit(job: Job) -> None:
    job.signal_script(signal.SIGUSR1)


def by_scheduler(job: Job) -> None:
    job.signal_step(signal.SIGTERM)


@pytest.mark.parametrize("preempt", [by_time_limit, by_scheduler])
def test_a_preempted_job_goes_back_to_the_queue_and_ends_with_the_same_bits(
    straight: Path, tmp_path: Path, submit: Callable[..., Job], preempt: Callable[[Job], None]
) -> None:
    out = tmp_path / "run"
    job = submit(str(TINY), *FLAGS, "--out", str(out))
    job.until("160/640")
    begun = time.monotonic()
    preempt(job)
    while not list_checkpoints(out / "checkpoints"):
        assert time.monotonic() - begun < GRACE_SECONDS, job.text()
        time.sleep(0.02)
    saved_seconds = time.monotonic() - begun
    assert job.wait() == 0, job.text()
    seconds = time.monotonic() - begun
    assert job.requeued(), job.text()
    assert (out / "PREEMPTED").exists()
    (saved,) = list_checkpoints(out / "checkpoints")
    assert 160 <= saved < 640
    job.start()
    assert job.wait() == 0, job.text()
    assert not job.requeued()
    assert "start 2, 2 node(s), first is 127.0.0.1" in job.text()
    assert f"resumed at {saved} images" in job.text()
    assert not (out / "PREEMPTED").exists()
    differing = unequal(straight / "checkpoints" / "640", out / "checkpoints" / "640")
    print(
        f"{preempt.__name__}: checkpoint of {saved} images after {saved_seconds:.1f} s of {GRACE_SECONDS} s grace, "
        f"queued again after {seconds:.1f} s, then the same bits"
    )
    assert differing == []


def test_a_job_stopped_before_it_could_train_is_queued_again(tmp_path: Path, submit: Callable[..., Job]) -> None:
    job = submit(str(TINY), *FLAGS, "--out", str(tmp_path / "run"))
    job.until("train.sbatch: job")
    while not (tmp_path / "slurm/tasks").exists():
        time.sleep(0.05)
    time.sleep(1.0)
    job.signal_script(signal.SIGUSR1)
    assert job.wait() == 0, job.text()
    assert job.requeued(), job.text()


def test_a_job_with_an_error_is_not_queued_again(tmp_path: Path, submit: Callable[..., Job]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/PREEMPTED").touch()  # of an earlier start: must not be taken for this one's
    job = submit(str(TINY), *FLAGS, "--out", str(tmp_path / "run"), "--set", "generator.nonsense=1")
    assert job.wait() != 0
    assert not job.requeued(), job.text()
    assert "generator.nonsense" in job.text()


def test_a_job_without_a_run_folder_is_refused(submit: Callable[..., Job]) -> None:
    job = submit(str(TINY))
    assert job.wait() == 2
    assert "give --out" in job.text()
