"""The table of readers of foreign bytes. A reader that is missing here is not known to keep the rule of `bounded`."""

from __future__ import annotations

from tests.fuzz import checkpoints, data, evaluations, imports, runs
from tests.fuzz.reader import Reader

READERS: tuple[Reader, ...] = (
    *checkpoints.READERS,
    *runs.READERS,
    *imports.READERS,
    *evaluations.READERS,
    *data.READERS,
)
