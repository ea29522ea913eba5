from __future__ import annotations

from pathlib import Path

import pytest

from framework.data.pack import pack
from tests.helpers.launch import ROOT


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vendored images at 8 x 8, as shards."""
    out = tmp_path_factory.mktemp("data") / "fashion8"
    pack(ROOT / "recipes/data/fashion_mnist", out, resolution=8, resize_filter="box", progress=False)
    return out
