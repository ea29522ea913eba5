"""`framework export --to huggingface`: whole tensors, files of bounded size, an index, and the way back."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from framework.checkpoint import Retention, TensorSlice, Writer
from framework.commands.export import export
from framework.interop.huggingface import read_folder
from framework.recipe.description import describe
from framework.utils.errors import FrameworkError
from tests.helpers.play import small_recipe


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(1)
    return small_recipe().build_network("generator").eval()


@pytest.fixture
def run(network: nn.Module, tmp_path: Path) -> Path:
    """A run folder whose last checkpoint was written by two ranks; one tensor was cut between them."""
    recipe, folder = small_recipe(), tmp_path / "run" / "checkpoints"
    tensors = [("ema", n, p.detach()) for n, p in network.named_parameters()]
    tensors += [("ema_buffer", n, b) for n, b in network.named_buffers()]
    parts: list[list[TensorSlice]] = [[], []]
    for index, (kind, name, tensor) in enumerate(tensors):
        flat, shape, key = tensor.reshape(-1), tuple(tensor.shape), f"generator/{kind}/{name}"
        cuts = (0, 3, len(flat)) if index == 0 else (0, len(flat))
        for part, (start, stop) in enumerate(itertools.pairwise(cuts)):
            parts[(index + part) % 2].append(TensorSlice(key=key, start=start, values=flat[start:stop], shape=shape))
    writers = [Writer(folder, rank=rank, world=2, token="t", retention=Retention(last=1)) for rank in range(2)]
    for writer, pieces in zip(writers, parts, strict=True):
        writer.save(640, pieces, documents={"recipe.json": describe(recipe)})
    for writer in writers:
        writer.close()
    return tmp_path / "run"


def test_files_are_bounded_indexed_and_read_back_to_the_same_images(
    run: Path, network: nn.Module, tmp_path: Path
) -> None:
    out, state = tmp_path / "out", network.state_dict()
    export(run, to="huggingface", out=out, max_file_gb=20e-6)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    files = sorted(out.glob("*.safetensors"))
    count = len(files)
    assert count > 1
    assert [file.name for file in files] == [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in state.values())
    for file in files:
        held = load_file(file)
        assert len(held) == 1 or sum(tensor.nbytes for tensor in held.values()) <= 20_000
        for name, tensor in held.items():
            assert index["weight_map"].pop(name) == file.name
            assert torch.equal(tensor, state[name]), name
    assert index["weight_map"] == {}
    z, labels = torch.randn(2, 8), torch.tensor([0, 3])
    with torch.no_grad():
        assert torch.equal(read_folder(out)(z, labels), network(z, labels))


def test_what_fits_into_one_file_has_no_index(run: Path, network: nn.Module, tmp_path: Path) -> None:
    export(run, to="huggingface", out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["player"], config["images"], config["averaged"]) == ("generator", 640, True)
    assert read_folder(tmp_path / "out").state_dict().keys() == network.state_dict().keys()


def test_what_cannot_be_written_or_read_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FrameworkError, match="holds no discriminator"):
        export(run, to="huggingface", out=tmp_path / "d", side="discriminator")
    out = tmp_path / "out"
    export(run, to="huggingface", out=out, max_file_gb=20e-6)
    with pytest.raises(FrameworkError, match="choose a new folder"):
        export(run, to="huggingface", out=out)
    max(out.glob("model-*.safetensors")).unlink()
    with pytest.raises(FrameworkError, match="is missing"):
        read_folder(out)
    with pytest.raises(FrameworkError, match=r"no config\.json"):
        read_folder(tmp_path)
