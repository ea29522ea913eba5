"""The journal's projection into a real MLflow server that is absent, down, slow, silent, full or taken away.

Every test asks the same two questions of the store: is each step of each metric there (lost = 0), and once only
(duplicates = 0)? And of training: did it wait?
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from framework.commands.sync import sync
from framework.tracking import Tracker
from framework.tracking.server import free_port, mlflow_server
from framework.utils.errors import FrameworkError
from tests.helpers.fault_proxy import FaultProxy
from tests.helpers.mlflow_store import Database, Server

NAMES = ("loss/G", "loss/D", "logits/real", "logits/fake")
BATCH_SIZE = 64


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder / "mlflow.db", port=free_port(5600), log=folder / "log") as url:
        yield Server(url)


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
    with FaultProxy(server.port) as proxy:
        yield proxy


def open_tracker(folder: Path, *, uri: str | None, start_upload: bool = True) -> Tracker:
    return Tracker.open(folder, uri=uri, experiment="faults", run_name=folder.name, start_upload=start_upload)


def value(name: str, step: int) -> float:
    return step + NAMES.index(name) / 8


def train(tracker: Tracker, *, steps: range, seconds: float = 0.0) -> float:
    """Train without training; return the longest time a step waited for tracking."""
    longest = 0.0
    for step in steps:
        before = time.perf_counter()
        tracker.metrics({name: value(name, step) for name in NAMES}, images_seen=step * BATCH_SIZE)
        longest = max(longest, time.perf_counter() - before)
        time.sleep(seconds / len(steps))
    return longest


def expected(name: str, steps: range) -> list[tuple[int, float]]:
    return [(step * BATCH_SIZE, value(name, step)) for step in steps]


def assert_complete(store: Server | Database, uid: str, *, steps: range, status: str = "FINISHED") -> None:
    for name in NAMES:
        points = store.points(uid, name)
        lost = len(steps) - len({step for step, _ in points})
        duplicates = len(points) - len({step for step, _ in points})
        assert (lost, duplicates) == (0, 0), f"{name}: lost {lost}, duplicates {duplicates}"
        assert points == expected(name, steps)
    assert store.status(uid) == status


def train_through(server: Server, folder: Path, *, fault: str, seconds: float, delay_seconds: float) -> str:
    """Train through one fault, behind a proxy of its own, and check what arrived; return the run's uid.

    `absent` is there from the start; the others begin once the run is in MLflow. All end before training does.
    """
    mode = {"absent": "down", "slow": "slow", "late": "slow"}.get(fault, fault)
    begin = "up" if fault in ("down", "hole", "error") else mode
    with FaultProxy(server.port, mode=begin, delay_seconds=delay_seconds) as proxy:
        before = time.perf_counter()
        tracker = open_tracker(folder, uri=proxy.url)
        assert time.perf_counter() - before < 2, "opening waited for the server"
        train(tracker, steps=range(1, 21))
        if begin == "up":
            server.wait_for_run(tracker.uid)
        proxy.mode = mode
        tracker.image("samples/ema", np.zeros((8, 8, 3), np.uint8), images_seen=20 * BATCH_SIZE)
        longest = train(tracker, steps=range(21, 201), seconds=seconds)
        proxy.mode = "up"
        train(tracker, steps=range(201, 221))
        assert tracker.finish("FINISHED", wait_seconds=90) is None
        assert longest < 0.5, "training waited"
    assert_complete(server, tracker.uid, steps=range(1, 221))
    assert len(server.files(tracker.uid, "images")) == 2, "the image and its preview"
    return tracker.uid


def all_at_once(server: Server, folder: Path, *, faults: dict[str, float], seconds: float) -> None:
    """Several faults side by side, because nearly all of their time is waiting."""
    with ThreadPoolExecutor(len(faults)) as pool:
        futures = {
            fault: pool.submit(
                train_through, server, folder / fault, fault=fault, seconds=seconds, delay_seconds=delay_seconds
            )
            for fault, delay_seconds in faults.items()
        }
    failed = {fault: future.exception() for fault, future in futures.items() if future.exception()}
    assert not failed, failed


@pytest.mark.alone
def test_training_goes_on_through_any_fault(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    # `late`: the server does what it is asked, but the answer comes after we have given up waiting for it.
    faults = {"absent": 0.0, "down": 0.0, "hole": 0.0, "error": 0.0, "slow": 0.5, "late": 3.0}
    all_at_once(server, tmp_path, faults=faults, seconds=8)


@pytest.mark.alone
@pytest.mark.slow
def test_training_goes_on_through_30_seconds(server: Server, tmp_path: Path) -> None:
    all_at_once(server, tmp_path, faults={"absent": 0.0, "down": 0.0, "hole": 0.0, "slow": 2.0}, seconds=30)


@pytest.mark.alone
def test_server_never_comes_back_then_sync(server: Server, proxy: FaultProxy, tmp_path: Path) -> None:
    proxy.mode = "down"
    tracker = open_tracker(tmp_path / "run", uri=proxy.url)
    train(tracker, steps=range(1, 51), seconds=1)
    before = time.perf_counter()
    sentence = tracker.finish("FINISHED", wait_seconds=2)
    assert time.perf_counter() - before < 6
    assert sentence is not None
    assert f"framework sync {tmp_path / 'run'}" in sentence
    stop_upload(tracker)
    with pytest.raises(FrameworkError, match="not everything"):
        sync(tmp_path / "run", recorded=True, patience_seconds=1)
    proxy.mode = "up"
    sync(tmp_path / "run", recorded=True)
    assert_complete(server, tracker.uid, steps=range(1, 51))


def stop_upload(tracker: Tracker) -> None:
    upload = tracker.upload
    assert upload is not None
    assert upload.pid is not None
    os.kill(upload.pid, signal.SIGKILL)
    upload.wait()


TRAINER = """
import sys, time
from tests.faults.test_tracking_faults import open_tracker, train
from pathlib import Path
tracker = open_tracker(Path(sys.argv[1]), uri=sys.argv[2])
if sys.argv[3] != "1":
    tracker.resumed(images_seen=0)
print(tracker.uid, flush=True)
train(tracker, steps=range(1, int(sys.argv[4]) + 1), seconds=float(sys.argv[5]))
print("trained", flush=True)
time.sleep(float(sys.argv[6]))
print(tracker.finish("FINISHED", wait_seconds=60), flush=True)
"""


def start_trainer(
    folder: Path, *, uri: str, attempt: int = 1, steps: int = 100, seconds: float = 1.0, stay_seconds: float = 0.0
) -> tuple[subprocess.Popen[str], str]:
    arguments = [str(folder), uri, str(attempt), str(steps), str(seconds), str(stay_seconds)]
    process = subprocess.Popen([sys.executable, "-c", TRAINER, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def kill_after_training(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "trained\n"
    process.kill()
    process.wait()
    process.stdout.close()


def wait_for_status(store: Server, uid: str, status: str, *, timeout_seconds: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while store.status(uid) != status:
        assert time.monotonic() < deadline, f"status is {store.status(uid)}, not {status}"
        time.sleep(0.2)


def test_killed_trainer_is_marked_by_its_upload_process(server: Server, proxy: FaultProxy, tmp_path: Path) -> None:
    process, uid = start_trainer(tmp_path / "run", uri=proxy.url, stay_seconds=600)
    server.wait_for_run(uid)
    kill_after_training(process)
    wait_for_status(server, uid, "FAILED")
    assert_complete(server, uid, steps=range(1, 101), status="FAILED")
    assert server.tags(uid)["framework.exit"] == "unclean"


def test_killed_trainer_and_upload_then_sync_then_resume(server: Server, proxy: FaultProxy, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    proxy.mode = "down"
    process, uid = start_trainer(folder, uri=proxy.url, stay_seconds=600)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    kill_after_training(process)
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    proxy.mode = "up"
    sync(folder, recorded=True)
    assert_complete(server, uid, steps=range(1, 101), status="FAILED")
    assert server.tags(uid)["framework.exit"] == "unclean"

    # The same command again: 100 steps repeated, 50 new ones, in the same run.
    process, uid_again = start_trainer(folder, uri=proxy.url, attempt=2, steps=150, seconds=4)
    assert uid_again == uid
    wait_for_status(server, uid, "RUNNING")
    assert "framework.exit" not in server.tags(uid)
    out, _ = process.communicate(timeout=120)
    assert out.splitlines()[-1] == "None"
    assert_complete(server, uid, steps=range(1, 151))
    assert server.tags(uid)["framework.exit"] == "clean"


def test_resume_while_the_old_upload_still_waits(server: Server, proxy: FaultProxy, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    proxy.mode = "down"
    process, uid = start_trainer(folder, uri=proxy.url, seconds=4, stay_seconds=600)
    kill_after_training(process)
    process, _ = start_trainer(folder, uri=proxy.url, attempt=2, steps=150, seconds=4)
    proxy.mode = "up"
    out, _ = process.communicate(timeout=120)
    assert out.splitlines()[-1] == "None"
    assert_complete(server, uid, steps=range(1, 151))


def six_at_once(folder: Path, *, uri: str, seconds: float) -> list[str]:
    started = [start_trainer(folder / f"run{n}", uri=uri, steps=200, seconds=seconds) for n in range(6)]
    for process, _ in started:
        out, _ = process.communicate(timeout=240)
        assert out.splitlines()[-1] == "None", out
    return [uid for _, uid in started]


def test_six_runs_at_once(server: Server, tmp_path: Path) -> None:
    for uid in six_at_once(tmp_path, uri=server.url, seconds=4):
        assert_complete(server, uid, steps=range(1, 201))


@pytest.mark.slow
def test_six_runs_at_once_into_one_new_sqlite_file(tmp_path: Path) -> None:
    database = Database(tmp_path / "mlflow.db")
    for uid in six_at_once(tmp_path, uri=database.uri, seconds=10):
        assert_complete(database, uid, steps=range(1, 201))


def test_deleted_run_is_no_reason_to_park_records(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tracker = open_tracker(folder, uri=server.url)
    train(tracker, steps=range(1, 21))
    run_id = server.wait_for_run(tracker.uid)["info"]["run_id"]
    server.call("runs/delete", body={"run_id": run_id})
    train(tracker, steps=range(21, 41), seconds=1)
    sentence = tracker.finish("FINISHED", wait_seconds=3)
    assert sentence is not None
    assert "deleted in MLflow" in sentence
    stop_upload(tracker)
    assert not (folder / "tracking" / "rejected.jsonl").exists()
    server.call("runs/restore", body={"run_id": run_id})
    sync(folder, recorded=True)
    assert_complete(server, tracker.uid, steps=range(1, 41))


def test_refused_record_is_parked_and_the_rest_arrives_once(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tracker = open_tracker(folder, uri=None)
    tracker.params({"generator": {"lr": 1e-4}})
    train(tracker, steps=range(1, 301))
    # Past our own check, as an MLflow with other rules would see it.
    tracker.journal.write("metrics", {"images": 1, "values": {"D(x)": 1.0, "fine": 2.0}})
    train(tracker, steps=range(301, 401))
    assert tracker.finish("FINISHED") is None
    with pytest.raises(FrameworkError, match="without MLflow"):
        sync(folder, recorded=True)
    sync(folder, uri=server.url)
    rejected = (folder / "tracking" / "rejected.jsonl").read_text().splitlines()
    assert len(rejected) == 1
    assert "D(x)" in rejected[0]
    sync(folder, uri=server.url)
    sync(folder, uri=server.url, rebuild=True)
    assert_complete(server, tracker.uid, steps=range(1, 401))
    assert server.points(tracker.uid, "fine") == [(1, 2.0)]
    assert server.params(tracker.uid) == {"generator.lr": "0.0001"}
