"""What a person sees of a run with an engine of a library: our lines, and none of the library's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.launch import TINY, run

pytestmark = [pytest.mark.distributed, pytest.mark.slow]
STEPS, BATCH, MOST_LINES = 20, 16, 30


@pytest.mark.parametrize("engine", ["zero3", "fsdp2"])
def test_a_short_run_prints_few_lines(engine: str, tmp_path: Path) -> None:
    flags = ("--images", str(STEPS * BATCH), "--log-every-images", "100", "--tracking", "none", "--engine", engine)
    text = run(TINY, *flags, "--out", str(tmp_path / "run"), log=tmp_path / "log")
    lines = text.splitlines()
    print(f"{engine}: {len(lines)} lines for {STEPS} steps")
    assert len(lines) < MOST_LINES, text
    assert "Warning" not in text
