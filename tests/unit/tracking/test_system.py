import math
import subprocess
from pathlib import Path

import pytest

from framework.tracking.records import check_name
from framework.tracking.system import SystemSampler, git_revision


def test_samples_are_finite_numbers_under_legal_names(tmp_path: Path) -> None:
    sampler = SystemSampler(tmp_path)
    total = sum(n * n for n in range(300_000))
    values = sampler.sample()
    assert total
    assert {"system/memory_gb", "system/cpu_cores", "system/disk_free_gb"} <= values.keys()
    assert all(math.isfinite(value) and check_name(name) for name, value in values.items())
    assert 0.005 < values["system/memory_gb"] < 64
    assert 0.1 < values["system/cpu_cores"] < 64
    assert values["system/disk_free_gb"] > 0


def test_vanished_folder_is_no_reason_to_fail(tmp_path: Path) -> None:
    assert "system/disk_free_gb" not in SystemSampler(tmp_path / "gone").sample()


def git(folder: Path, *arguments: str) -> None:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True)


def test_git_revision_tells_commit_and_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "repository"
    folder.mkdir()
    assert git_revision(folder) is None
    git(folder, "init")
    assert git_revision(folder) is None, "nothing is committed yet"
    (folder / "file").write_text("1")
    git(folder, "add", "file")
    git(folder, "commit", "-m", "one")
    revision = git_revision(folder)
    assert revision is not None
    assert len(revision["commit"]) == 40
    assert revision["dirty"] is False
    (folder / "file").write_text("2")
    changed = git_revision(folder)
    assert changed == {"commit": revision["commit"], "dirty": True}


def test_git_revision_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) is None
