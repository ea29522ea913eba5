"""Public weights in every format, read and loaded into a network of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from framework import interop
from framework.checkpoint import Checkpoint
from framework.interop import huggingface
from framework.interop.files import read_file
from framework.utils.errors import FrameworkError
from tests.fuzz.checkpoints import _one
from tests.fuzz.hostile import any_of_them, files
from tests.fuzz.mutation import damaged, json_edited
from tests.fuzz.reader import Reader, Target
from tests.unit.interop.pickles import network_of_layers, write_network_pickle


def _dcgan() -> dict[str, Tensor]:
    """A generator of 8 px as pytorch/examples would save it."""
    torch.manual_seed(0)
    state = {"main.0.weight": torch.randn(3, 4, 4, 4), "main.3.weight": torch.randn(4, 1, 4, 4)}
    norm = {
        "weight": torch.ones(4),
        "bias": torch.zeros(4),
        "running_mean": torch.zeros(4),
        "running_var": torch.ones(4),
    }
    return state | {f"main.1.{name}": value for name, value in norm.items()}


def _read(name: str) -> Any:
    def read(folder: Path) -> Any:
        file = read_file(folder / name)
        for state in file.states.values():
            try:
                interop.load("dcgan-pytorch-examples", "generator", state)
            except FrameworkError:
                continue
        return file.states

    return read


def _pth(legacy: bool) -> Any:
    def make(folder: Path) -> None:
        content = {"netG": _dcgan(), "step": 3, "optimizer": {"param_groups": [{"lr": 1e-3, "betas": (0.5, 0.9)}]}}
        torch.save(content, folder / "a.pth", _use_new_zipfile_serialization=not legacy)

    return make


def _harmful(folder: Path) -> None:
    files()  # here, so that no case is charged for their making
    _pth(False)(folder)


def _pickle(folder: Path) -> None:
    options = {"z_dim": 4, "synthesis_kwargs": {"conv_clamp": 256, "shape": [1, 2]}}
    write_network_pickle(folder / "a.pkl", G_ema=(network_of_layers(), options))


def _npz(folder: Path) -> None:
    np.savez_compressed(folder / "a.npz", **{name: tensor.numpy() for name, tensor in _dcgan().items()})  # type: ignore[arg-type]


def _safetensors(folder: Path) -> None:
    safetensors.torch.save_file(_dcgan(), folder / "a.safetensors")


def _huggingface(folder: Path) -> None:
    _one(folder / "run")
    checkpoint = Checkpoint.open(folder / "run" / "64")
    huggingface.write_folder(checkpoint, folder / "hf", side="generator", averaged=True, max_file_bytes=400)


def _exported(folder: Path) -> Any:
    return {name: tensor.shape for name, tensor in huggingface.read_folder(folder / "hf").state_dict().items()}


READERS = (
    Reader(name="import .pth", make=_pth(False), read=_read("a.pth"), targets=(Target(path="a.pth"),)),
    Reader(name="import .pth, legacy", make=_pth(True), read=_read("a.pth"), targets=(Target(path="a.pth"),)),
    Reader(name="import network pickle", make=_pickle, read=_read("a.pkl"), targets=(Target(path="a.pkl"),)),
    Reader(name="import .npz", make=_npz, read=_read("a.npz"), targets=(Target(path="a.npz"),)),
    Reader(
        name="import .safetensors",
        make=_safetensors,
        read=_read("a.safetensors"),
        targets=(Target(path="a.safetensors"),),
    ),
    Reader(
        name="import, made to do harm",
        make=_harmful,
        read=_read("a.pth"),
        targets=(Target(path="a.pth", mutators=(any_of_them,)),),
    ),
    Reader(
        name="exported folder",
        make=_huggingface,
        read=_exported,
        targets=(
            Target(path="hf/config.json", mutators=(damaged, json_edited)),
            Target(path="hf/model.safetensors.index.json", mutators=(damaged, json_edited)),
            Target(path="hf/model-00001-of-00002.safetensors"),
        ),
    ),
)
