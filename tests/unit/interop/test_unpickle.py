"""Foreign files are data: what they hold is read, what they ask for is not done."""

import argparse
import collections
import io
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from framework.interop.files import read_file
from framework.utils.errors import FrameworkError

from .pickles import Evil, Reduces, foreign_modules, network_of_layers, persistent, write_network_pickle

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "counter": torch.tensor(7)}


def same(state: Any, expected: Any) -> None:
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], tensor), name


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_network_pickle(tmp_path: Path, protocol: int) -> None:
    networks = {name: network_of_layers() for name in ("G", "D", "G_ema")}
    options = {"z_dim": 4, "synthesis_kwargs": {"conv_clamp": 256, "shape": [1, 2]}, "dtype": torch.float32}
    path = tmp_path / "network-snapshot.pkl"
    write_network_pickle(path, protocol, **{name: (network, options) for name, network in networks.items()})
    before = set(sys.modules)
    file = read_file(path)
    assert file.states.keys() == networks.keys()
    for name, network in networks.items():
        same(file.states[name], network.state_dict())
        # What is no number, string or container of them is left out.
        assert file.options[name] == {"z_dim": 4, "synthesis_kwargs": {"conv_clamp": 256, "shape": [1, 2]}}
    assert not {name for name in set(sys.modules) - before if name.startswith(("torch_utils", "dnnlib"))}


def test_ordinary_layers_inside_a_network_pickle(tmp_path: Path) -> None:
    """R3GAN's pickles hold torch's own layers, which pickle as objects of their class."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Conv2d(1, 2, 3))
    path = tmp_path / "network.pkl"
    with foreign_modules() as persistence:
        wrapper = torch.nn.Module()
        outer = persistent(wrapper, persistence)
        outer.arguments[0]["state"]["_modules"] = {"Model": network}
        path.write_bytes(pickle.dumps({"G_ema": outer}))
    same(read_file(path).states["G_ema"], {f"Model.{name}": tensor for name, tensor in network.state_dict().items()})


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
def test_torch_files(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "checkpoint.pth"
    content = {
        "netG": collections.OrderedDict(STATE),
        "nested": {"deeper": STATE},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3}]},
        "args": argparse.Namespace(size=256),
        "step": 3,
    }
    torch.save(content, path, **options)
    states = read_file(path).states
    assert states.keys() == {"netG", "nested.deeper"}
    for state in states.values():
        same(state, STATE)
    torch.save(STATE, path, **options)
    same(read_file(path).states[""], STATE)


def test_plain_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{name: tensor.numpy() for name, tensor in STATE.items()}, meta=np.array("text"))
    safetensors.torch.save_file(STATE, tmp_path / "a.safetensors")
    for name in ("a.npz", "a.safetensors"):
        same(read_file(tmp_path / name).states[""], STATE)


@pytest.mark.parametrize("function", [os.system, eval, print], ids=["os.system", "eval", "print"])
@pytest.mark.parametrize("place", ["pkl", "parameter", "options", "source", "inner bytes", "pth", "pth legacy"])
def test_nothing_runs(tmp_path: Path, function: Any, place: str) -> None:
    mark, path = tmp_path / "it ran", tmp_path / "evil"
    evil = Evil(mark, function)
    if place.startswith("pth"):
        torch.save({"model": STATE, "x": evil}, path, _use_new_zipfile_serialization=place == "pth")
    elif place == "pkl":
        write_network_pickle(path, G=evil)
    else:
        with foreign_modules() as persistence:
            network = persistent(network_of_layers(), persistence, **({"x": evil} if place == "options" else {}))
            meta = network.arguments[0]
            if place == "source":
                meta["module_src"] = evil
            elif place == "parameter":
                meta["state"]["_parameters"]["halves"] = evil
            elif place == "inner bytes":
                buffer = io.BytesIO()
                torch.save(evil, buffer, _use_new_zipfile_serialization=False)
                storage = Reduces(torch.storage._load_from_bytes, buffer.getvalue())
                tensor = Reduces(torch._utils._rebuild_tensor_v2, storage, 0, (2,), (1,), False, {})
                meta["state"]["_parameters"]["halves"] = tensor
            path.write_bytes(pickle.dumps({"G": network}))
    with pytest.raises(FrameworkError, match=rf"names [\w.]*{function.__name__}, .*refused"):
        read_file(path)
    assert not mark.exists()


def test_the_hostile_pickles_would_run_elsewhere(tmp_path: Path) -> None:
    """Otherwise the test above could not fail."""
    for function in (os.system, eval):
        mark = tmp_path / function.__name__
        pickle.loads(pickle.dumps(Evil(mark, function)))
        assert mark.exists()


def test_only_what_a_pickle_says_is_kept() -> None:
    """Every callable that the list of names lets through gives a record, whatever it is called with."""
    from framework.interop import unpickle

    unpickler = unpickle._Unpickler(io.BytesIO())
    for origin in unpickle._RECORDS:
        module, _, name = origin.rpartition(".")
        record = unpickler.find_class(module, name)("rm -rf /", {"x": 1})
        assert isinstance(record, unpickle.Record)
        assert record.origin == origin
    for origin in ("builtins.getattr", "builtins.exec", "torch.load", "torch.storage", "os.system", "nt.system"):
        module, _, name = origin.rpartition(".")
        with pytest.raises(FrameworkError, match=origin):
            unpickler.find_class(module, name)


def tensor_claim(values: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Reduces:
    buffer = io.BytesIO()
    torch.save(values.storage(), buffer, _use_new_zipfile_serialization=False)
    storage = Reduces(torch.storage._load_from_bytes, buffer.getvalue())
    return Reduces(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (5,), (1,)), (1, (4,), (1,)), (0, (2, 2), (3, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2,), (1, 1))],
)
def test_tensors_stay_within_their_values(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    path = tmp_path / "network.pkl"
    with foreign_modules() as persistence:
        network = persistent(network_of_layers(), persistence)
        network.arguments[0]["state"]["_parameters"]["halves"] = tensor_claim(torch.zeros(4), offset, size, stride)
        path.write_bytes(pickle.dumps({"G": network}))
    with pytest.raises(FrameworkError, match="halves"):
        read_file(path)


def test_modules_that_contain_themselves(tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    with foreign_modules() as persistence:
        network = persistent(network_of_layers(), persistence)
        (meta,) = network.arguments
        meta["state"]["_modules"]["again"] = Reduces(network.function, meta)
        path.write_bytes(pickle.dumps({"G": network}))
    with pytest.raises(FrameworkError, match="contains itself"):
        read_file(path)


def test_files_of_the_tensorflow_programs(tmp_path: Path) -> None:
    path = tmp_path / "stylegan.pkl"
    path.write_bytes(b"\x80\x04cdnnlib.tflib.network\nNetwork\n)\x81.")
    with pytest.raises(FrameworkError, match="TensorFlow"):
        read_file(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"\x80\x04K\x01.", b"PK\x03\x04", b"text", b"\x80\x04}."])
def test_damaged_and_empty_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(FrameworkError, match="file"):
        read_file(path)
    with pytest.raises(FrameworkError, match="no such file"):
        read_file(tmp_path / "missing")
