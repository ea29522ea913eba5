"""Pickles as NVlabs' training programs write them, and hostile ones, made without any of their code."""

from __future__ import annotations

import os
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

SOURCE = "raise SystemExit('the source text of a foreign class was run')"


@contextmanager
def foreign_modules() -> Iterator[types.ModuleType]:
    """Modules of NVlabs' programs and pytorch_GAN_zoo exist while a file is written, and are gone when it is read."""
    names = ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util", "models", "models.utils")
    names = (*names, "models.utils.config")
    modules = {name: types.ModuleType(name) for name in names}

    def _reconstruct_persistent_obj(meta: Any) -> None:
        raise AssertionError("never called")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    easy = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    modules["dnnlib.util"].EasyDict = easy
    config = type("BaseConfig", (), {"__module__": "models.utils.config"})
    modules["models.utils.config"].BaseConfig = config
    sys.modules.update(modules)
    try:
        yield modules["torch_utils.persistence"]
    finally:
        for name in names:
            del sys.modules[name]


def persistent(module: nn.Module, persistence: types.ModuleType, **options: Any) -> Any:
    """An object that pickles as that module would, had its class been decorated with `persistent_class`."""
    state = dict(module.__dict__)
    state["_modules"] = {name: persistent(child, persistence) for name, child in module._modules.items()}
    state |= {"_init_args": (), "_init_kwargs": sys.modules["dnnlib.util"].EasyDict(options)}
    name = type(module).__name__
    meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": name, "state": state}
    return Reduces(persistence._reconstruct_persistent_obj, meta)


class Reduces:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def write_network_pickle(path: Path, protocol: int = pickle.HIGHEST_PROTOCOL, **networks: Any) -> None:
    """`{key: (module, options)}` as a snapshot of a training run; other values are written as they are."""
    with foreign_modules() as persistence:
        content: dict[str, Any] = {}
        for key, value in networks.items():
            content[key] = persistent(value[0], persistence, **value[1]) if isinstance(value, tuple) else value
        content["training_set_kwargs"] = sys.modules["dnnlib.util"].EasyDict(class_name="Dataset", resolution=8)
        content["augment_pipe"] = None
        path.write_bytes(pickle.dumps(content, protocol=protocol))


def network_of_layers() -> nn.Module:
    """Nested modules with parameters, buffers (one of them not persistent), and things that are neither."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 2))
            self.register_parameter("bias", None)
            self.register_buffer("noise", torch.randn(4, 4).t())
            self.register_buffer("scratch", torch.zeros(1), persistent=False)
            self.gain = 1.5

    network = nn.Module()
    network.first, network.second = Layer(), Layer()
    network.halves = nn.Parameter(torch.randn(5).half()[1:3])
    return network


class Evil:
    """Runs a command when it is unpickled by anything that calls what a pickle asks for."""

    def __init__(self, mark: Path, function: Any = os.system) -> None:
        self.mark, self.function = mark, function

    def __reduce__(self) -> Any:
        python = f"__import__('pathlib').Path({str(self.mark)!r}).touch()"
        return self.function, (python if self.function is eval else f"touch {self.mark}",)
