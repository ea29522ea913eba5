"""Names that MLflow's tables have no room for are refused before training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModel
from mlflow.store.tracking.dbmodels.models import SqlDataset, SqlExperiment, SqlRun
from mlflow.utils.validation import MAX_DATASET_NAME_SIZE, MAX_EXPERIMENT_NAME_LENGTH, MAX_TAG_VAL_LENGTH

from framework import R1, Alternating, Hinge
from framework.tracking import Tracker
from framework.tracking.names import (
    MOST_DATASET,
    MOST_EXPERIMENT,
    MOST_MODEL,
    MOST_RUN_NAME,
    check_experiment,
    check_model_name,
    check_run_name,
)
from framework.tracking.records import JOURNAL_NAME, read_journal
from framework.train.config import RunConfig
from framework.train.launch import checked
from framework.utils.errors import FrameworkError
from tests.helpers.play import small_recipe


def test_limits_are_those_of_mlflow() -> None:
    """MLflow's own check takes longer experiments than its table: SQLite stores them, PostgreSQL does not."""
    assert min(SqlExperiment.name.type.length, MAX_EXPERIMENT_NAME_LENGTH) == MOST_EXPERIMENT
    assert min(SqlRun.name.type.length, MAX_TAG_VAL_LENGTH) == MOST_RUN_NAME  # also the tag mlflow.runName
    assert SqlRegisteredModel.name.type.length == MOST_MODEL


@pytest.mark.parametrize("check", [check_experiment, check_run_name, check_model_name])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "must not be empty"),
        (" \t", "must not be empty"),
        ("two\nlines", "without control characters"),
        ("\udcff is no UTF-8", "without control characters"),
        ("x" * 600, "xxx...: has 600 characters, MLflow takes 25"),
    ],
)
def test_what_no_store_takes(check, name: str, message: str) -> None:
    with pytest.raises(FrameworkError, match=f"--name .*{message}"):
        check(name, what="--name")


def test_what_every_store_takes() -> None:
    for name in ("sagan/fashion: run 1", "Größe 図 🙂", "x" * 250):
        assert check_experiment(name, what="") == check_run_name(name, what="") == name
    assert check_model_name("Größe 図 1.0", what="") == "Größe 図 1.0"
    for name in ("a/b", "a:b", "..", "."):
        with pytest.raises(FrameworkError, match="hold no / or :"):
            check_model_name(name, what="--register")


def test_a_run_that_could_never_be_uploaded_is_refused(tmp_path: Path) -> None:
    recipe = small_recipe()
    for flags, message in (
        ({"experiment": "x" * 600}, "--experiment xxx.* has 600 characters, MLflow takes 256"),
        ({"experiment": ""}, "--experiment '': must not be empty"),
        ({"run_name": "x" * 251}, "--run-name xxx.* has 251 characters, MLflow takes 250"),
        ({"out": tmp_path / ("x" * 251)}, "--run-name, by default the run folder's name, xxx.* has 251 characters"),
    ):
        with pytest.raises(FrameworkError, match=message):
            checked(recipe, RunConfig(**flags))
    with pytest.raises(FrameworkError, match=r"--experiment, by default the recipe's name, 'a.*control characters"):
        checked(dataclasses.replace(recipe, name="a\nb"), RunConfig())
    assert list(tmp_path.iterdir()) == []


def test_a_penalty_whose_scores_could_not_be_written_is_refused_with_the_recipe() -> None:
    named = type("Größe", (R1,), {})
    with pytest.raises(FrameworkError, match="'penalty/Größe' cannot be a name in the journal"):
        Alternating(loss=Hinge(), discriminator_terms=(named(weight=1.0),))


def test_a_data_set_may_be_called_what_it_likes(tmp_path: Path) -> None:
    assert SqlDataset.name.type.length == MAX_DATASET_NAME_SIZE == MOST_DATASET
    tracker = Tracker.open(tmp_path, uri=None, experiment="e", run_name="r")
    tracker.dataset("x" * 600, digest="d", location="here", profile={})
    tracker.finish("FINISHED")
    (written,) = [record for _, record in read_journal(tmp_path / JOURNAL_NAME) if record["kind"] == "dataset"]
    assert written["name"] == "x" * 500


def test_names_come_from_flags_or_from_what_there_is(tmp_path: Path) -> None:
    assert RunConfig(out=tmp_path / "a").names("recipe") == ("recipe", "a")
    assert RunConfig(experiment="e", run_name="r").names("recipe") == ("e", "r")
    assert RunConfig().names("recipe") == ("recipe", "recipe")
