from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.launch import TINY, run

UNDISTURBED = ("--images", "1600", "--save-every-images", "320", "--log-every-images", "160", "--tracking", "none")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of 100 steps on two processes to which nothing happened; others use the same flags."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(TINY, *UNDISTURBED, "--record-keys", "--keep-last", "9", "--out", str(folder / "run"), log=folder / "log")
    return folder / "run"
