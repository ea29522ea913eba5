"""Kubernetes files: what their APIs accept, what a resumed run needs of them, and that they agree with each other."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.helpers.launch import ROOT

FILES = sorted((ROOT / "launch/kubernetes").glob("*.yaml"))
SCHEMA = yaml.safe_load((ROOT / "tests/helpers/kubernetes.schema.yaml").read_text())
STOPPED = 75  # launch/common.sh


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def errors(document: dict[str, Any]) -> list[str]:
    """What the schema of the document's kind refuses."""
    kind = {"$schema": SCHEMA["$schema"], "$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{document['kind']}"}
    found = jsonschema.Draft202012Validator(kind).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod's specification, with the document it is in."""
    for path in FILES:
        for document in documents(path):
            if document["kind"] == "PyTorchJob":
                for name, replica in document["spec"]["pytorchReplicaSpecs"].items():
                    yield f"{path.name} {name}", replica["template"]["spec"]
            elif document["kind"] in ("JobSet", "TrainingRuntime"):
                yield f"{path.name} {document['kind']}", job_of(document)["template"]["spec"]


def job_of(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]["template"]["spec"] if document["kind"] == "TrainingRuntime" else document["spec"]
    (replicated,) = spec["replicatedJobs"]
    return replicated["template"]["spec"]


def kind(name: str) -> dict[str, Any]:
    (found,) = [document for path in FILES for document in documents(path) if document["kind"] == name]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_apis_accept_it(path: Path) -> None:
    for document in documents(path):
        assert errors(document) == []


def test_the_schema_is_a_schema_and_refuses_mistakes() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    document = kind("JobSet")
    mistakes = {
        "an unknown field": lambda d: d["spec"].update(maxRestarts=3),
        "a field of a pod in the job": lambda d: d["spec"]["replicatedJobs"][0]["template"]["spec"].update(volumes=[]),
        "a number as a variable": lambda d: job_of(d)["template"]["spec"]["containers"][0]["env"][0].update(value=2),
        "a pod that runs as root": lambda d: job_of(d)["template"]["spec"]["securityContext"].update(runAsUser=0),
        "no time to save": lambda d: job_of(d)["template"]["spec"].pop("terminationGracePeriodSeconds"),
    }
    for name, make in mistakes.items():
        wrong = copy.deepcopy(document)
        make(wrong)
        assert errors(wrong), name


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=[name for name, _ in pods()])
def test_a_pod_has_what_training_needs(name: str, pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert "command" not in container, "it would replace the image's entrypoint, which hands signals on"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
    claim = mounts["/shared"]["persistentVolumeClaim"]["claimName"]
    assert claim == kind("PersistentVolumeClaim")["metadata"]["name"]
    assert pod["terminationGracePeriodSeconds"] > 120, "torchrun's own patience, launch/torchrun/node.sh"


def commands() -> list[list[str]]:
    containers = [pod["containers"][0] for _, pod in pods()]
    return [c["args"] for c in [*containers, kind("TrainJob")["spec"]["trainer"]] if "args" in c]


@pytest.mark.parametrize("command", commands())
def test_the_commands_exist_and_their_runs_are_shared(command: list[str]) -> None:
    assert command[0] == "launch/torchrun/node.sh"
    assert (ROOT / command[0]).exists()
    assert (ROOT / command[1]).exists()
    flags = dict(flag.split("=", 1) for flag in command[2:])
    assert flags["--out"].startswith("/shared/")


@pytest.mark.parametrize("name", ["JobSet", "TrainingRuntime"])
def test_a_stopped_run_is_started_again_for_ever_and_a_failing_one_is_not(name: str) -> None:
    document, job = kind(name), job_of(kind(name))
    spec = document["spec"]["template"]["spec"] if name == "TrainingRuntime" else document["spec"]
    policy = spec["failurePolicy"]
    assert policy["maxRestarts"] > 0
    assert policy["rules"][0]["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert policy["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert job["backoffLimit"] == 0, "one pod that is gone must end the others' attempt, too"
    exits = [rule["onExitCodes"]["values"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert exits == [[STOPPED]]
    assert f"readonly STOPPED={STOPPED}" in (ROOT / "launch/common.sh").read_text()
    assert job["template"]["spec"]["restartPolicy"] == "Never", "podFailurePolicy needs it"


def test_the_machines_of_a_jobset_agree() -> None:
    document = kind("JobSet")
    job = job_of(document)
    env = {entry["name"]: entry.get("value") for entry in job["template"]["spec"]["containers"][0]["env"]}
    assert job["parallelism"] == job["completions"] == int(env["NUM_NODES"] or 0)
    name, replicated = document["metadata"]["name"], document["spec"]["replicatedJobs"][0]["name"]
    assert env["MAIN_ADDRESS"] == f"{name}-{replicated}-0-0.{name}"


def test_operators_find_what_they_look_for() -> None:
    runtime, job = kind("TrainingRuntime"), kind("TrainJob")
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == replicated["template"]["spec"]["template"]["spec"]["containers"][0]["name"] == "node"
    assert replicated["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"
    for replica in kind("PyTorchJob")["spec"]["pytorchReplicaSpecs"].values():
        assert replica["template"]["spec"]["containers"][0]["name"] == "pytorch"
        assert replica["restartPolicy"] == "OnFailure"


def test_only_the_machines_of_a_job_may_connect_to_each_other() -> None:
    policies = [d for path in FILES for d in documents(path) if d["kind"] == "NetworkPolicy"]
    selected = {}
    for policy in policies:
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress"]
        assert spec["ingress"] == [{"from": [{"podSelector": spec["podSelector"]}]}]
        selected |= spec["podSelector"]["matchLabels"]
    # The labels that the operators put on pods, and the names of the jobs here.
    assert kind("JobSet")["metadata"]["name"] == kind("TrainJob")["metadata"]["name"]
    assert selected == {
        "jobset.sigs.k8s.io/jobset-name": kind("JobSet")["metadata"]["name"],
        "training.kubeflow.org/job-name": kind("PyTorchJob")["metadata"]["name"],
    }


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=[name for name, _ in pods()])
def test_a_pod_takes_the_secret_of_its_job_from_kubernetes(name: str, pod: dict[str, Any]) -> None:
    (secret,) = [entry for entry in pod["containers"][0]["env"] if entry["name"] == "JOB_SECRET"]
    assert secret["valueFrom"]["secretKeyRef"] == {"name": "gan-job", "key": "secret", "optional": True}
    assert "kubectl create secret generic gan-job --from-file=secret=" in (ROOT / "launch/README.md").read_text()
