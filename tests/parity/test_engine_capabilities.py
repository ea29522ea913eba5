"""Every penalty and every normalisation on every engine, 2 processes against one.

Here each penalty meets one normalisation. The whole product in all precisions takes a quarter of an hour:
FRAMEWORK_TEST_ENGINES=1, or `python -m benchmarks.engine_matrix --capabilities`, which prints it as tables.
"""

from __future__ import annotations

import os

import pytest

from benchmarks.engine_capabilities import COVERING, LIMIT, differences, everything, rows, walk
from framework.engines.capabilities import ENGINES
from tests.helpers.spawn import run_ranks

pytestmark = pytest.mark.distributed


@pytest.mark.timeout(900)
def test_every_penalty_and_normalisation_trains_on_every_engine_as_on_one_process() -> None:
    one = run_ranks(walk, 1, ("ddp",), COVERING, timeout_seconds=800.0)[0]
    two = run_ranks(walk, 2, ENGINES, COVERING, timeout_seconds=800.0)[0]
    for engine in ENGINES:
        found = differences(one, two, engine=engine, reference="ddp")
        assert len(found) == len(COVERING)
        print(engine, {f"{penalty}, {kind}": f"{largest:.0e}" for (penalty, kind), largest in found.items()})
        assert max(found.values()) <= LIMIT


@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif(
    os.environ.get("FRAMEWORK_TEST_ENGINES") != "1",
    reason="a quarter of an hour of small games; set FRAMEWORK_TEST_ENGINES=1",
)
def test_the_whole_product() -> None:
    report = rows(everything())
    wrong = [row for row in report if row["status"] != "ok"]
    print(f"{len(report)} combinations, {len(wrong)} differ: {wrong}")
    assert not wrong
