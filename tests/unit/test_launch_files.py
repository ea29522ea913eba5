"""Launcher configurations are what Accelerate accepts, and the commands in the documents exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.helpers.launch import ROOT

CONFIGS = sorted((ROOT / "launch/accelerate").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_accelerate_reads_it(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.num_processes >= 1
    assert config.mixed_precision == "no", "precision is the recipe's --precision, not the launcher's"
    # use_cpu makes Accelerate start one process only, whatever num_processes says.
    assert yaml.safe_load(path.read_text())["use_cpu"] is False


@pytest.mark.parametrize("document", ["README.md", "launch/README.md", "recipes/data/README.md"])
def test_files_named_in_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for path in re.findall(r"(?:launch|recipes|docs|benchmarks)/[\w/]+\.(?:yaml|py|md|png)", text):
        assert (ROOT / path).exists() or path == "recipes/x.py", f"{document} names {path}"
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / document).parent.joinpath(target).exists(), f"{document} links to {target}"


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
