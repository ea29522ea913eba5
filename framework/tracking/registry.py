"""The best checkpoint of a run as a version of a model in MLflow's registry.

The generator's files are stored with the model, so that a registered version can be sampled on machines that do not see
the run folder.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from framework.tracking.checkpoints import (
    LOCATION_TAG,
    MANIFEST_NAME,
    MODEL_TAG,
    SHA256_TAG,
    DamagedError,
    KeptCheckpoint,
    Score,
    best_of,
    checkpoint_paths,
    read_checkpoint,
    read_score_file,
    scores_from,
)
from framework.tracking.cursor import Cursor
from framework.tracking.destination import OutsideError, inside
from framework.tracking.process import mlflow_environment
from framework.tracking.uri import move_credentials, redact
from framework.utils.errors import FrameworkError
from framework.utils.suggest import nearest

BEST_ALIAS = "best"


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version in the registry, and the score that chose it."""

    number: int
    images: int
    score: Score


def register_best(run_folder: Path, *, uri: str, name: str, by: str) -> Version:
    """Add the best kept checkpoint of a run to the registry as the newest version of `name`, with the alias `best`.

    Args:
        run_folder: the folder of a run whose checkpoints are already in MLflow.
        uri: the store.
        name: the registered model; it is created when absent.
        by: the metric that decides, the beginning of its name, or its chart name with the protocol's hash.

    Raises:
        FrameworkError: there is no score of that name, or there are several; the checkpoint is not in MLflow; or the
            store refuses.
    """
    checkpoints, scores = _scored(run_folder)
    images, score = _choose(scores, by=by, run_folder=run_folder)
    checkpoint = checkpoints[images]
    cursor = Cursor.load(run_folder, uri=uri)
    entry = cursor.models.get(checkpoint.sha256)
    if entry is None:
        later = shlex.join(["framework", "sync", str(run_folder)])
        raise FrameworkError(f"{checkpoint.path} is not in MLflow yet: {later}")
    os.environ.update(mlflow_environment())
    import mlflow
    from mlflow.exceptions import MlflowException

    # The registry looks the model up through MLflow's global address, whatever a client was given.
    mlflow.set_tracking_uri(move_credentials(uri, environment=os.environ))
    client = mlflow.MlflowClient()
    model_id = str(entry["model_id"])
    tags = {
        LOCATION_TAG: str(checkpoint.path),
        SHA256_TAG: checkpoint.sha256,
        MODEL_TAG: model_id,
        "framework.images": str(images),
        "framework.best_by": f"{score.chart} = {score.value:g}",
    }
    try:
        _store_files(client, model_id, checkpoint, run_folder=run_folder)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        version = client.create_model_version(
            name, source=f"models:/{model_id}", run_id=cursor.run_id, model_id=model_id, tags=tags
        )
        client.set_registered_model_alias(name, BEST_ALIAS, version.version)
    except MlflowException as error:
        raise FrameworkError(f"--register {name}: {redact(uri)} answers: {error.message}") from None
    return Version(number=int(version.version), images=images, score=score)


def _scored(run_folder: Path) -> tuple[dict[int, KeptCheckpoint], dict[int, list[Score]]]:
    checkpoints, scores = {}, {}
    for images, path in checkpoint_paths(run_folder).items():
        try:
            scores[images] = list(scores_from(read_score_file(path)))
            checkpoints[images] = read_checkpoint(path)
        except (DamagedError, ValueError) as error:
            raise FrameworkError(f"{path}: {error}") from None
    return checkpoints, scores


def _choose(scores: Mapping[int, list[Score]], *, by: str, run_folder: Path) -> tuple[int, Score]:
    best = best_of(scores)
    wanted = by.removeprefix("metrics/")
    names = {chart: chart.removeprefix("metrics/") for chart in best}
    # The most exact match decides: `fid50k` is found also where there is a `fid50k_clean`.
    for found in (
        [chart for chart, plain in names.items() if plain == wanted],
        [chart for chart in names if best[chart][1].name == wanted],
        [chart for chart in names if best[chart][1].name.startswith(wanted)],
    ):
        if len(found) == 1:
            return best[found[0]]
        if found:
            raise FrameworkError(
                f"--by {by} could be any of {', '.join(sorted(names[chart] for chart in found))}, which are not "
                "comparable: give one of them"
            )
    if not best:
        raise FrameworkError(f"no checkpoint of {run_folder} has a score: evaluate them first, then register the best")
    raise FrameworkError(
        f"--by {by}: no checkpoint has such a score{nearest(wanted, names.values())}; there are "
        f"{', '.join(sorted(names.values()))}"
    )


def _store_files(  # type: ignore[no-untyped-def]
    client, model_id: str, checkpoint: KeptCheckpoint, *, run_folder: Path
) -> None:
    """Store the files that sampling needs with the model; files of the same names are replaced."""
    with tempfile.TemporaryDirectory(prefix="framework-register-") as folder:
        for name in (MANIFEST_NAME, *checkpoint.weights):
            if Path(name).name != name:
                raise FrameworkError(f"{checkpoint.path / MANIFEST_NAME} names {name!r}, which is no plain file name")
            try:
                os.symlink(inside(run_folder, checkpoint.path / name), Path(folder) / name)
            except (OutsideError, FileNotFoundError) as error:
                raise FrameworkError(f"{checkpoint.path}: {error}") from None
        client.log_model_artifacts(model_id, folder)
