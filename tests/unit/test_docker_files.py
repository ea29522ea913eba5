"""The Dockerfile: linted, its parts exist, signals reach the trainer, nothing runs as root (built in tests/system)."""

from __future__ import annotations

import fnmatch
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.dockerfile import Step, copy_of, read
from tests.helpers.launch import ROOT

DOCKERFILE = ROOT / "docker/Dockerfile"
BUILD, FINAL = read(DOCKERFILE)


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (in the dev dependencies)")
    return found


def test_hadolint_is_content() -> None:
    done = subprocess.run([tool("hadolint"), str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_reader_reads(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "ARG A\nFROM x AS y\n# no\nRUN one \\\n    # no\n    && two\nCOPY --from=z a b c/\n"
    )
    (stage,) = read(tmp_path / "Dockerfile")
    assert (stage.name, stage.base) == ("y", "x")
    assert shlex.split(stage.steps[0].text.replace("\\\n", " ")) == ["one", "&&", "two"]
    assert copy_of(stage.steps[1]) == ("z", ["a", "b"], "c/")


@pytest.mark.parametrize("step", [s for stage in (BUILD, FINAL) for s in stage.steps if s.word == "RUN"])
def test_commands_are_sound_shell(step: Step) -> None:
    done = subprocess.run([tool("shellcheck"), "-s", "bash", "-"], input=step.text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    ignore = (ROOT / "docker/Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignore if line.startswith("!")]
    assert "*" in ignore, "everything else stays out: no runs, no .venv, no history in the image"
    sources = [
        source
        for stage in (BUILD, FINAL)
        for step in stage.steps
        if step.word == "COPY"
        for origin, sources, _ in [copy_of(step)]
        if origin is None
        for source in sources
    ]
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), f"{source} is kept out of the build"
    assert sorted(allowed) == sorted(set(sources)), "nothing is let in that is not copied"


def test_signals_reach_the_trainer() -> None:
    """A shell as process 1 would swallow SIGTERM; so the entrypoint is a list of words, and the first one is tini."""
    assert json.loads(FINAL.last("ENTRYPOINT")) == ["tini", "--"]
    assert isinstance(json.loads(FINAL.last("CMD")), list)


def test_the_smoke_test_is_the_doctor() -> None:
    assert json.loads(FINAL.last("CMD")) == ["python", "-m", "framework.doctor"]


def test_nothing_runs_as_root_and_the_user_is_a_number() -> None:
    """Kubernetes can check runAsNonRoot only where the image's user is a number."""
    words = [step.word for step in FINAL.steps]
    assert FINAL.last("USER") == "1000:1000"
    assert "RUN" not in words[words.index("USER") :]


def test_the_final_image_has_no_tools_of_the_build() -> None:
    (copied,) = [copy_of(step) for step in FINAL.steps if step.word == "COPY" and "--from" in step.text]
    assert copied == ("build", ["/opt/venv"], "/opt/venv")
    assert BUILD.base == FINAL.base, "another base's Python would not fit the environment"
    assert not any("pip install" in step.text for step in FINAL.steps)
