"""Files for import that were made to do harm: refused with a sentence, or read as what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from framework.interop.files import read_file
from framework.utils.errors import FrameworkError
from tests.fuzz.hostile import ARCHIVES, FOUR, PICKLES, archive, held, tensor, torch_legacy, torch_zip

HOSTILE = PICKLES | ARCHIVES


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_with_a_sentence(tmp_path: Path, name: str) -> None:
    make, message = HOSTILE[name]
    path = tmp_path / "weights"
    path.write_bytes(make())
    with pytest.raises(FrameworkError, match=message) as refused:
        read_file(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("wrap", [torch_zip, torch_legacy])
def test_what_may_be_there_is_read(tmp_path: Path, wrap: type[bytes]) -> None:
    """The same files without the harm, or the tests above would show nothing."""
    path = tmp_path / "weights"
    for value, size in (
        (tensor(), (2,)),
        (tensor(size=FOUR + b"\x85", stride=b"K\0\x85"), (4,)),  # one value four times, of four
        (b"ctorch._utils\n_rebuild_parameter\n" + tensor() + b"\x89)\x87R", (2,)),
    ):
        path.write_bytes(wrap(held(value)))
        (read,) = read_file(path).states[""].values()
        assert torch.equal(read, torch.zeros(size))
    path.write_bytes(archive())
    assert torch.equal(read_file(path).states[""]["w"], torch.arange(1000.0, dtype=torch.float64))


def test_state_dicts_with_their_versions_are_read(tmp_path: Path) -> None:
    """`Module.state_dict()` carries an attribute; tuples and sets of plain values are keys and members."""
    state = torch.nn.Linear(2, 3).state_dict()
    content = {"net": state, "seen": {1, 2}, "table": {(1, ("a", 2)): 3}, "size": torch.Size([2, 3])}
    for zipped in (True, False):
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        read = read_file(tmp_path / "a.pth").states["net"]
        assert all(torch.equal(read[name], value) for name, value in state.items())
