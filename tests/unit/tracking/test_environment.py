"""MLflow's variables in training: flags win over them, they win over defaults, and a resumed run stays where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.tracking import Tracker
from framework.tracking.environment import EXPERIMENT, RUN_NAME, URI, store_uri, wishes
from framework.tracking.records import JOURNAL_NAME, last_start
from framework.tracking.uri import embedded_uri
from framework.utils.errors import FrameworkError
from tests.helpers.journals import records

SERVER = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("flag", "variable", "wished"),
    [
        (None, "", None),
        (None, SERVER, SERVER),
        ("http://other:5000", SERVER, "http://other:5000"),
        ("default", SERVER, "default"),
        ("none", SERVER, "none"),
    ],
)
def test_the_store(flag: str | None, variable: str, wished: str | None) -> None:
    assert wishes(tracking=flag, environment={URI: variable}).tracking == wished


def test_names() -> None:
    told = {EXPERIMENT: "from the variable", RUN_NAME: "called so"}
    assert wishes(environment=told).experiment == "from the variable"
    assert wishes(environment=told).run_name == "called so"
    assert wishes(experiment="from the flag", run_name="b", environment=told).experiment == "from the flag"
    assert wishes(experiment="from the flag", run_name="b", environment=told).run_name == "b"
    assert wishes(environment={EXPERIMENT: "", RUN_NAME: ""}) == wishes(environment={})


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({URI: "ftp://me:secret@host/x"}, URI),
        ({URI: "http://[::1"}, URI),
        ({URI: "mlruns"}, URI),
        ({URI: "none"}, URI),  # a word of the flag
        ({EXPERIMENT: " "}, EXPERIMENT),
        ({EXPERIMENT: "e" * 600}, EXPERIMENT),
        ({RUN_NAME: "two\nlines"}, RUN_NAME),
    ],
)
def test_what_mlflow_could_not_take_is_refused_by_the_variable_s_name(variables: dict[str, str], named: str) -> None:
    with pytest.raises(FrameworkError, match=named) as refused:
        wishes(environment=variables)
    assert "secret" not in str(refused.value)
    assert "--" not in str(refused.value)


@pytest.mark.parametrize("flag", ["tracking", "experiment", "run_name"])
def test_a_bad_flag_is_named_too(flag: str) -> None:
    with pytest.raises(FrameworkError, match=f"--{flag.replace('_', '-')}"):
        wishes(environment={}, **{flag: "ftp://" if flag == "tracking" else " "})


def test_variables_that_are_not_followed_are_named() -> None:
    told = wishes(environment={"MLFLOW_RUN_ID": "0" * 32, "MLFLOW_EXPERIMENT_ID": "7", EXPERIMENT: "e"}).unused
    assert [sentence.split()[0] for sentence in told] == ["MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"]
    assert wishes(environment={"MLFLOW_RUN_ID": ""}).unused == ()


def begin(run: Path, *, uri: str | None, experiment: str = "e", run_name: str = "r") -> None:
    Tracker.open(run, uri=uri, experiment=experiment, run_name=run_name, start_upload=False).finish("KILLED")


def test_a_new_run_goes_beside_its_folder(tmp_path: Path) -> None:
    assert store_uri(None, run_folder=tmp_path / "a") == embedded_uri(tmp_path)
    assert store_uri("default", run_folder=tmp_path / "a") == embedded_uri(tmp_path)
    assert store_uri("none", run_folder=tmp_path / "a") is None
    assert store_uri(SERVER, run_folder=tmp_path / "a") == SERVER


def test_a_resume_without_the_variable_goes_on_in_the_same_store(tmp_path: Path) -> None:
    begin(tmp_path / "a", uri=SERVER)
    assert store_uri(None, run_folder=tmp_path / "a") == SERVER
    assert store_uri("default", run_folder=tmp_path / "a") == embedded_uri(tmp_path), "a flag moves it"


def test_a_resume_that_lacks_the_password_says_so(tmp_path: Path) -> None:
    begin(tmp_path / "a", uri="http://me:secret@127.0.0.1:1")
    with pytest.raises(FrameworkError, match=URI) as refused:
        store_uri(None, run_folder=tmp_path / "a")
    assert "secret" not in str(refused.value)
    assert "secret" not in (tmp_path / "a" / JOURNAL_NAME).read_text()


def test_a_resumed_run_keeps_its_experiment_and_its_name(tmp_path: Path) -> None:
    begin(tmp_path / "a", uri=SERVER, experiment="first", run_name="one")
    begin(tmp_path / "a", uri=SERVER, experiment="second", run_name="two")
    assert [(r["experiment"], r["run_name"]) for r in records(tmp_path / "a", "start")] == [("first", "one")] * 2


def test_a_moved_run_finds_the_database_beside_it(tmp_path: Path) -> None:
    begin(tmp_path / "runs/a", uri=embedded_uri(tmp_path / "runs"))
    (tmp_path / "runs").rename(tmp_path / "moved")
    assert last_start(tmp_path / "moved/a" / JOURNAL_NAME)["uri"] == embedded_uri(tmp_path / "moved")


def test_a_moved_run_of_an_older_version_does_so_too(tmp_path: Path) -> None:
    begin(tmp_path / "runs/a", uri=f"sqlite:///{tmp_path}/elsewhere/mlflow.db")
    assert last_start(tmp_path / "runs/a" / JOURNAL_NAME)["uri"] == f"sqlite:///{tmp_path}/elsewhere/mlflow.db"
    (tmp_path / "runs/mlflow.db").touch()
    assert last_start(tmp_path / "runs/a" / JOURNAL_NAME)["uri"] == embedded_uri(tmp_path / "runs")
