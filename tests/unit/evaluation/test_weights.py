"""Weights: from files, from a server that answers, from one that does not, and with other bytes than promised."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from framework.data.fetch import FetchOptions
from framework.evaluation import weights as module
from framework.evaluation.errors import EvaluationError, MissingError
from framework.evaluation.extractors.base import tensors_sha256
from framework.evaluation.metrics import parse_metrics
from framework.evaluation.models import open_models
from framework.evaluation.weights import downloaded, load_weights
from framework.utils.errors import FrameworkError
from tests.helpers.judged import ALONE
from tests.unit.data.stream_helpers import serve

QUICK = FetchOptions(stall_seconds=5, deadline_seconds=10, retries=0)


def test_the_same_tensors_in_any_file_have_one_identity(tmp_path: Path) -> None:
    state = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(2, dtype=torch.float16)}
    save_file(state, tmp_path / "x.safetensors")
    torch.save({"model": dict(reversed(state.items()))}, tmp_path / "x.pth")
    found = [load_weights(tmp_path / name, containing="a") for name in ("x.safetensors", "x.pth")]
    assert tensors_sha256(found[0].state) == tensors_sha256(found[1].state)
    assert found[0].sha256 == hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest() != found[1].sha256
    state["b"][1, 2] += 1e-3
    assert tensors_sha256(state) != tensors_sha256(found[0].state)


def test_wrong_files_are_errors_and_not_missing(tmp_path: Path) -> None:
    save_file({"other": torch.ones(1)}, tmp_path / "other.safetensors")
    metrics = parse_metrics("fid")
    with pytest.raises(EvaluationError, match="another network"):
        open_models(metrics, session=ALONE, weights=tmp_path / "other.safetensors")
    save_file({"Conv2d_1a_3x3.conv.weight": torch.ones(1)}, tmp_path / "part.safetensors")
    with pytest.raises(EvaluationError, match="not the Inception weights of FID: 469 of 470"):
        open_models(metrics, session=ALONE, weights=tmp_path / "part.safetensors")
    with pytest.raises(FrameworkError, match="no such file"):
        open_models(metrics, session=ALONE, weights=tmp_path / "absent.safetensors")


def test_an_unreachable_server_gives_a_missing_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:  # bound and not listening: refuses
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/weights-6726825d.pth"
        with pytest.raises(MissingError, match=r"could not be fetched.*--extractor-weights"):
            downloaded(url, folder=tmp_path, options=QUICK)
        monkeypatch.setattr(module, "INCEPTION_URL", url)
        monkeypatch.setattr(module.downloaded, "__kwdefaults__", {"options": QUICK})
        models = open_models(parse_metrics("fid,pr"), session=ALONE, cache_folder=tmp_path)
    assert models.extractor is None
    assert "--extractor-weights" in models.missing["extractor"]
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_checked_kept_and_not_repeated(tmp_path: Path) -> None:
    content = b"weights" * 1000
    digest = hashlib.sha256(content).hexdigest()
    root, cache = tmp_path / "root", tmp_path / "cache"
    root.mkdir()
    (root / f"w-{digest[:8]}.pth").write_bytes(content)
    (root / "w-00000000.pth").write_bytes(content)
    with serve(root) as running:
        server = running.url("good").rstrip("/")
        path = downloaded(f"{server}/w-{digest[:8]}.pth", folder=cache, options=QUICK)
        assert path.read_bytes() == content
        with pytest.raises(MissingError, match="must begin with 00000000"):
            downloaded(f"{server}/w-00000000.pth", folder=cache, options=QUICK)
    again = downloaded(f"{server}/w-{digest[:8]}.pth", folder=cache, options=QUICK)  # the server is gone
    assert again == path
    path.write_bytes(b"cut")
    with pytest.raises(MissingError):
        downloaded(f"{server}/w-{digest[:8]}.pth", folder=cache, options=QUICK)
