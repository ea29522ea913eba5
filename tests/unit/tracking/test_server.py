"""Our own MLflow server."""

from pathlib import Path

from framework.tracking.server import free_port, mlflow_server


def test_its_first_search_is_answered_before_anyone_else_may_ask(tmp_path: Path) -> None:
    # MLflow imports a module in its first search; one that arrived meanwhile was answered with 500, once in a CI run.
    log = tmp_path / "log"
    with mlflow_server(tmp_path / "mlflow.db", port=free_port(5700), log=log):
        told = log.read_text()
    assert told.count('"POST /api/2.0/mlflow/runs/search HTTP/1.1" 200') == 1, told
