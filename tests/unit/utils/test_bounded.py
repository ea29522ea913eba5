"""One rule for bytes that others may have written; `python -m tests.fuzz` tries it on every reader."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from framework import interop
from framework.interop.files import read_file
from framework.networks import dcgan
from framework.recipe import Network
from framework.tracking.journal import Journal
from framework.utils.archives import Arrays
from framework.utils.bounded import element_count, open_regular, parse_json, read_json
from framework.utils.budget import Budget
from framework.utils.errors import FrameworkError


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 65 + "]" * 65, "NaN", "1e999", "9" * 50, '"\\ud800"', "{", '{"a": -Infinity}']
)
def test_json_that_nothing_else_could_take(text: str) -> None:
    with pytest.raises(FrameworkError, match="the file is damaged: it is not valid JSON"):
        parse_json(text, source="the file")


def test_json_within_bounds() -> None:
    deep = "[" * 64 + "]" * 64
    assert str(parse_json(deep, source="x")).replace(" ", "") == deep
    assert parse_json('{"a": [1, 1.5, "\\u00e9", null]}', source="x") == {"a": [1, 1.5, "é", None]}


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "device", tmp_path):
        with pytest.raises(FrameworkError, match="not a regular file"):
            open_regular(path)
    with pytest.raises(FrameworkError, match="cannot be the name"):
        open_regular(tmp_path / "a\0b")
    with pytest.raises(FrameworkError, match="cannot be opened"):
        open_regular(tmp_path / ("a" * 300))
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FrameworkError, match="more than"):
        read_json(tmp_path / "huge.json")


@pytest.mark.parametrize("shape", [[-1, -4], [True], [1.5], "ab", [1 << 30] * 3, [0, 1 << 62], [1] * 40, None])
def test_shapes_that_no_array_has(shape: object) -> None:
    with pytest.raises(FrameworkError):
        element_count(shape, source="x")


def test_archives_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(80 << 20, np.uint8))
    with pytest.raises(FrameworkError, match="would unpack to"):
        Arrays(path)
    np.savez(path, a=np.arange(1000))
    raw = bytearray(path.read_bytes())
    raw[-1500] ^= 1
    path.write_bytes(bytes(raw))
    with Arrays(path) as arrays, pytest.raises(FrameworkError, match="CRC"):
        arrays["a"]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", b"x")
    with pytest.raises(FrameworkError, match="packed by method 12"):
        Arrays(path)


def test_a_described_width_is_not_allocated() -> None:
    network = Network(dcgan.Generator, resolution=8, z_dim=4, width=1 << 20)
    budget = Budget.of([(4, 2, 4, 4), (2, 3, 4, 4)])
    with pytest.raises(FrameworkError, match="far larger than its stored 2 tensors"):
        budget.check(network.build, network.options, source="the recipe")
    small = Network(dcgan.Generator, resolution=8, z_dim=4, width=2)
    budget.check(small.build, small.options, source="the recipe")


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_larger_than_their_file(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save({"w": torch.zeros(1).expand(1 << 30)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(FrameworkError, match="larger than its 1 values"):
        read_file(path)


def test_dcgan_as_pytorch_examples_writes_it() -> None:
    """`self.main = nn.Sequential(...)`: names begin with `main.`, and the networks are the ones without it."""
    torch.manual_seed(0)
    layers = [
        torch.nn.ConvTranspose2d(5, 8, 4, 1, 0, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(True),
        torch.nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(True),
        torch.nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False),
        torch.nn.Tanh(),
    ]
    main = torch.nn.Sequential(*layers).eval()
    state = {f"main.{name}": tensor for name, tensor in main.state_dict().items()}
    z = torch.randn(2, 5)
    ours = interop.load("dcgan-pytorch-examples", "generator", state)
    torch.testing.assert_close(ours(z), main(z[:, :, None, None]))


@pytest.mark.parametrize(
    "line", ['{"kind":"metrics","time_ms":1}', '{"kind":' + "[" * 100_000, '{"kind":3,"time_ms":1}']
)
def test_a_malformed_line_does_not_stop_a_resume(tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path)
    journal.write("metrics", {"images": 8, "values": {"x": 1.0}})
    journal.close()
    with journal.path.open("a") as file:
        file.write(line + "\n")
    journal = Journal(tmp_path)
    journal.close()
    assert journal.state.high_water_images == {"x": 8}
    assert f"{journal.path}: 1 line(s) are no records and are passed over, first line 2" in caplog.text
