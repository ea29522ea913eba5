"""The table of readers of foreign bytes. A reader that is missing here is not known to keep the rule of `bounded`."""

from __future__ import annotations

from tests.fuzz import answers, checkpoints, data, evaluations, imports, packing, records, runs, uploads
from tests.fuzz.reader import Reader

READERS: tuple[Reader, ...] = (
    *checkpoints.READERS,
    *records.READERS,
    *runs.READERS,
    *uploads.READERS,
    *imports.READERS,
    *evaluations.READERS,
    *data.READERS,
    *packing.READERS,
    *answers.READERS,
)
