"""What is fetched from MLflow for sampling is removed again, also when it is of no use."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from framework.checkpoint import Retention, TensorSlice, Writer
from framework.recipe.description import describe
from framework.sampling.load import load_generator
from framework.tracking import artifacts
from framework.utils.errors import FrameworkError
from tests.helpers.play import small_recipe


@pytest.mark.parametrize("damaged", [False, True])
def test_a_download_is_gone_after_loading(damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, temporary = small_recipe(), tmp_path / "temporary"
    temporary.mkdir()
    network = recipe.build_network("generator")
    tensors = [("ema", n, p.detach()) for n, p in network.named_parameters()]
    tensors += [("ema_buffer", n, b) for n, b in network.named_buffers()]
    pieces = [
        TensorSlice(key=f"generator/{kind}/{name}", start=0, values=tensor.reshape(-1), shape=tuple(tensor.shape))
        for kind, name, tensor in tensors
    ]
    with Writer(tmp_path / "stored", rank=0, world=1, token="t", retention=Retention(last=1)) as writer:
        writer.save(640, pieces, documents={"recipe.json": describe(recipe)})
    fetched: list[Path] = []

    def fetch(uri: str, *, into: Path, tracking_uri: str | None) -> Path:
        fetched.append(into)
        copy = Path(shutil.copytree(tmp_path / "stored" / "640", into / "640"))
        if damaged:
            (copy / "manifest.json").write_text("{}")
        return copy

    monkeypatch.setattr(artifacts, "download_checkpoint", fetch)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    if damaged:
        with pytest.raises(FrameworkError):
            load_generator("runs:/1")
    else:
        loaded = load_generator("runs:/1")
        assert loaded.downloaded
        assert loaded.draw(torch.zeros(1, loaded.z_dim), torch.zeros(1, dtype=torch.int64)).shape[0] == 1
        assert not load_generator(tmp_path / "stored" / "640").downloaded
    assert fetched[0].parent == temporary
    assert list(temporary.glob("checkpoint-*")) == []  # torch may keep a cache of its own beside it
