"""One process alone, and a world that is smaller than was asked for."""

from __future__ import annotations

import pytest

from framework.runtime import session
from framework.runtime.launchers import LaunchError
from framework.runtime.session import open_session


def test_a_world_of_one_where_more_were_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "told_processes", lambda: 4)
    with pytest.raises(LaunchError, match="asked for 4 processes, but this one sees a world of 1"), open_session():
        raise AssertionError("must not open")


def test_one_process_alone() -> None:
    with open_session(device="cpu") as session:
        assert (session.rank, session.world, session.device.type) == (0, 1, "cpu")
        assert session.broadcast_text("übertragen") == "übertragen"
        assert session.max_over_ranks(1.5) == 1.5
