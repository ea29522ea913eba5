"""The one writer of safetensors outside checkpoints: what it writes, with which mode, and that there is no other."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from framework.checkpoint.tensorfile import save_tensors
from framework.evaluation import statistics
from tests.unit.test_layers import PACKAGE, imports, modules

TENSORS = {
    "scalar": torch.tensor(3.0),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "part": torch.arange(10)[2:7],
    "empty": torch.zeros(0, 4),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "flags": torch.tensor([True, False]),
}


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


@pytest.mark.parametrize("write", ["save_tensors", "statistics"])
def test_the_library_reads_it_and_the_mode_is_the_umasks(write: str, tmp_path: Path, umask: int) -> None:
    path = tmp_path / "new" / "file.safetensors"
    if write == "statistics":
        statistics.write(path, TENSORS, about={})
    else:
        save_tensors(path, TENSORS, metadata={"format": "pt"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_there_is_no_other_writer() -> None:
    for path in modules():
        assert "save_file" not in path.read_text(), f"{path.relative_to(PACKAGE)}: use save_tensors"
        assert "safetensors.numpy" not in set(imports(path))
