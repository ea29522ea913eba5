"""Our torchrun: what it says before it starts anything."""

from __future__ import annotations

import pytest
import torch

from framework.runtime.torchrun import main


def test_a_machine_without_a_gpu_is_told_what_to_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One process per GPU is what `node.sh` asks for unless told otherwise."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--nproc_per_node", "gpu", "recipe.py"]) == 2
    shown = capsys.readouterr().err
    assert shown == "error: one process per GPU, and torch sees no GPU here: give PROCESSES_PER_NODE\n"
