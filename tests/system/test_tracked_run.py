"""A real launch seen through MLflow: one run over two launches, no step twice, grids and checkpoint reachable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.launch import TINY, environment, run

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracked")
    for images in ("320", "640"):
        flags = ("--images", images, "--log-every-images", "80", "--sample-every-images", "160")
        text = run(TINY, *flags, "--out", str(folder / "runs/a"), log=folder / f"{images}.log")
        assert "review in MLflow" in text
    synced = subprocess.run(
        [sys.executable, "-m", "framework", "sync", str(folder / "runs/a")],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert synced.returncode == 0, synced.stderr
    return folder / "runs/a"


@pytest.fixture(scope="module")
def client(out: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
        yield mlflow.MlflowClient(tracking_uri=f"sqlite:///{out.parent / 'mlflow.db'}")


@pytest.mark.filterwarnings("ignore")  # MLflow's own imports warn
def test_one_run_with_every_step_once(client, out: Path) -> None:
    experiment = client.get_experiment_by_name("tiny_sagan")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1
    found = runs[0]
    assert found.info.status == "FINISHED"
    charts = ("loss/D", "loss/G", "logits/real", "logits/fake", "grad_norm/D", "grad_norm/G")
    for name in (*charts, "perf/images_per_second", "perf/data_wait_share", "system/memory_gb"):
        steps = [point.step for point in client.get_metric_history(found.info.run_id, name)]
        assert sorted(steps) == list(range(80, 641, 80)), name
    assert found.data.params["generator.optimizer.lr"] == "0.001"
    assert found.data.tags["framework.checkpoint"] == str(out / "checkpoints/640")
    assert len(found.data.tags["framework.data_fingerprint"]) == 64
    images = [item.path for item in client.list_artifacts(found.info.run_id, "images")]
    for step in (160, 320, 480, 640):
        assert any(f"samples~ema+step+{step}+" in path for path in images), step
    assert "recipe.json" in [item.path for item in client.list_artifacts(found.info.run_id)]
    assert [i.path for i in client.list_artifacts(found.info.run_id, "checkpoints")] == [
        "checkpoints/320",
        "checkpoints/640",
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("hidden", [False, True])
def test_sampling_by_run_id(client, out: Path, tmp_path: Path, hidden: bool) -> None:
    run_id = client.search_runs([client.get_experiment_by_name("tiny_sagan").experiment_id])[0].info.run_id
    checkpoints = out / "checkpoints"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    if hidden:  # as on a machine that does not see the run folder: only what MLflow stored is there
        checkpoints.rename(out / "elsewhere")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "framework", "sample", f"runs:/{run_id}", "--grid", "2x2", "--out", "g.png",
             "--tracking-uri", f"sqlite:///{out.parent / 'mlflow.db'}"],
            capture_output=True, text=True, cwd=tmp_path, env=environment() | {"TMPDIR": str(temporary)},
        )  # fmt: skip
    finally:
        if hidden:
            (out / "elsewhere").rename(checkpoints)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "g.png").stat().st_size > 100
    assert list(temporary.iterdir()) == [], "what was downloaded is gone"
