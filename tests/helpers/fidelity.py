"""The real torch-fidelity as a reference, imported without torchvision.

torch-fidelity imports torchvision for data sets and for extractors other than Inception, and the index's torchvision is
built for CUDA: beside a CPU torch it does not import. What is compared here (Inception, LPIPS, FID, KID, precision and
recall, Inception Score) calls nothing of it, so its place is taken by modules in which every use is an error.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from typing import Any

import pytest

PLACE = "FRAMEWORK_TORCH_FIDELITY"
"""Environment variable: a folder to import torch-fidelity from, when it is not installed."""


class _Absent(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.isupper() or name[0].isupper():  # classes that are named at import and never used
            return type(name, (), {})
        raise AssertionError(f"torch-fidelity used torchvision's {self.__name__}.{name}: this is no reference any more")


def torch_fidelity(module: str) -> Any:
    """A module of torch-fidelity; skips the test when it is not installed."""
    if os.environ.get(PLACE) and os.environ[PLACE] not in sys.path:
        sys.path.append(os.environ[PLACE])
    if importlib.util.find_spec("torch_fidelity") is None:
        pytest.skip(f"torch-fidelity is not installed (pip install -e .[dev], or {PLACE}=FOLDER)")
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules.setdefault(name, _Absent(name))
    for child in ("datasets", "transforms"):
        sys.modules["torchvision"].__dict__.setdefault(child, sys.modules[f"torchvision.{child}"])
    functional = sys.modules["torchvision.transforms.functional"]
    sys.modules["torchvision.transforms"].__dict__.setdefault("functional", functional)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"torch_fidelity.{module}")
