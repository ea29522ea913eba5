"""Find the checkpoint folder that `runs:/<MLflow run id>` or `models:/<name>/<version>` means, or download it.

Nothing is unpickled: the result is a checkpoint folder of safetensors and JSON, whose hashes the reader checks.
MLflow's own model loaders, which may run code, are never called.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from framework.tracking.checkpoints import HOST_TAG, LOCATION_TAG, MODEL_TAG, SHA256_TAG, DamagedError, read_checkpoint
from framework.tracking.process import mlflow_environment
from framework.tracking.uri import move_credentials, redact
from framework.utils.errors import FrameworkError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")


def download_checkpoint(uri: str, *, into: Path, tracking_uri: str | None = None) -> Path:
    """Return the checkpoint that a URI means: its own folder if this machine sees it, else the files stored in MLflow.

    Args:
        uri: `runs:/<id>` (the run's last one), `runs:/<id>/checkpoints/<images>`, `models:/<name>/<version>`,
            `models:/<name>@<alias>`, or `models:/<id of a logged model>`.
        into: folder for files that must be fetched; the caller removes it.
        tracking_uri: MLflow store; default: the environment's, else `runs/mlflow.db` here.

    Raises:
        FrameworkError: no such run, model or store, or its checkpoint cannot be reached from here.
    """
    os.environ.update(mlflow_environment())
    import mlflow
    from mlflow.exceptions import MlflowException

    store = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or _local_store(uri)
    # Files of a model are looked up through MLflow's global address.
    mlflow.set_tracking_uri(move_credentials(store, environment=os.environ))
    client = mlflow.MlflowClient()
    try:
        if uri.startswith("models:/"):
            return _of_model(client, uri, into)
        return _of_run(client, uri, into)
    except MlflowException as error:
        raise FrameworkError(f"{uri} in {redact(store)}: {error.message}") from None


def _of_run(client: MlflowClient, uri: str, into: Path) -> Path:
    run_id, _, wanted = uri.removeprefix("runs:/").partition("/")
    tags = client.get_run(run_id).data.tags
    location = Path(tags.get(LOCATION_TAG, ""))
    if not wanted and LOCATION_TAG in tags and location.is_dir():
        return location
    stored = [item.path for item in client.list_artifacts(run_id, "checkpoints") if item.is_dir]
    chosen = wanted or max(stored, key=lambda path: int(path.rpartition("/")[2]), default="")
    if not chosen and LOCATION_TAG in tags:
        raise FrameworkError(
            f"{uri}: its checkpoint {location} cannot be reached from this machine and is not in MLflow until "
            "the run ends: sample on a machine that sees that folder"
        )
    if not chosen:
        raise FrameworkError(f"{uri}: the run has no checkpoint yet")
    return Path(client.download_artifacts(run_id, chosen, dst_path=str(into)))


def _of_model(client: MlflowClient, uri: str, into: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    model_id = _model_id(client, uri)
    tags = client.get_logged_model(model_id).tags
    if LOCATION_TAG not in tags or SHA256_TAG not in tags:
        raise FrameworkError(f"{uri} is no checkpoint of this framework: its tags do not say where one is")
    location, sha256 = Path(tags[LOCATION_TAG]), tags[SHA256_TAG]
    why_not = _unlike(location, sha256)
    if not why_not:
        return location
    if client.list_logged_model_artifacts(model_id):
        folder = Path(download_artifacts(f"models:/{model_id}", dst_path=str(into)))
        if damage := _unlike(folder, sha256):
            raise FrameworkError(f"{uri}: what MLflow has stored is not the registered checkpoint ({damage})")
        return folder
    host = tags.get(HOST_TAG, "another machine")
    raise FrameworkError(
        f"{uri}: its checkpoint {location} of {host} cannot be reached from this machine ({why_not}), and its files "
        "are not in MLflow: sample where that folder is, or store them from there with framework review RUN "
        "--register NAME"
    )


def _model_id(client: MlflowClient, uri: str) -> str:
    name = uri.removeprefix("models:/")
    if _MODEL_ID.fullmatch(name):
        return name
    model, at, alias = name.partition("@")
    model, slash, version = model.partition("/")
    if not model or not (alias if at else slash and version.isdigit()):
        raise FrameworkError(f"{uri}: write it as models:/NAME/VERSION (a number), models:/NAME@ALIAS or models:/m-...")
    found = client.get_model_version_by_alias(model, alias) if at else client.get_model_version(model, version)
    model_id = found.tags.get(MODEL_TAG) or found.model_id
    if not model_id:
        raise FrameworkError(f"{uri} was not registered by framework review --register: it points to no logged model")
    return str(model_id)


def _unlike(folder: Path, sha256: str) -> str:
    """Return why a folder does not hold the checkpoint of this hash; empty when it does."""
    try:
        found = read_checkpoint(folder)
    except (OSError, DamagedError) as error:
        return "no such folder" if isinstance(error, FileNotFoundError) else str(error)
    return "" if found.sha256 == sha256 else "another checkpoint has taken its place there"


def _local_store(uri: str) -> str:
    database = Path("runs/mlflow.db").resolve()
    if not database.exists():
        raise FrameworkError(
            f"{uri}: which MLflow store? Set MLFLOW_TRACKING_URI or --tracking-uri (there is no {database})"
        )
    return f"sqlite:///{database}"
