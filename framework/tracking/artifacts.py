"""From `runs:/<MLflow run id>` to a checkpoint folder on this machine."""

import os
import tempfile
from pathlib import Path

from framework.errors import FrameworkError
from framework.tracking.process import mlflow_environment

LOCATION_TAG = "framework.checkpoint"


def download_checkpoint(uri: str, *, tracking_uri: str | None = None) -> Path:
    """The checkpoint of a run: its own folder when this machine sees it, else the generator stored with the run.

    Args:
        uri: `runs:/<id>`, or `runs:/<id>/checkpoints/<images>` for a certain one.
        tracking_uri: MLflow store; default: the environment's, else `runs/mlflow.db` here.

    Raises:
        FrameworkError: no such run or store, or it has no checkpoint.
    """
    os.environ.update(mlflow_environment())
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    run_id, _, wanted = uri.removeprefix("runs:/").partition("/")
    store = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or _local_store(uri)
    client = MlflowClient(tracking_uri=store)
    try:
        tags = client.get_run(run_id).data.tags
        location = Path(tags.get(LOCATION_TAG, ""))
        if not wanted and LOCATION_TAG in tags and location.is_dir():
            return location
        stored = [item.path for item in client.list_artifacts(run_id, "checkpoints") if item.is_dir]
        chosen = wanted or max(stored, key=lambda path: int(path.rpartition("/")[2]), default="")
        if not chosen:
            raise FrameworkError(f"{uri}: the run has no checkpoint yet (its folder was {location})")
        return Path(client.download_artifacts(run_id, chosen, dst_path=tempfile.mkdtemp(prefix="checkpoint-")))
    except MlflowException as error:
        raise FrameworkError(f"{uri} in {store}: {error.message}") from None


def _local_store(uri: str) -> str:
    database = Path("runs/mlflow.db").resolve()
    if not database.exists():
        raise FrameworkError(
            f"{uri}: which MLflow store? Set MLFLOW_TRACKING_URI or --tracking-uri (there is no {database})"
        )
    return f"sqlite:///{database}"
