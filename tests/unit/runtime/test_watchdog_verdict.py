"""Who gets the blame, and when nobody does yet."""

from __future__ import annotations

import pytest

from framework.runtime.watchdog import DATA, STEP, Note, Seen, verdict

STALL = 10.0


def note(
    rank: int, *, quiet: float, doing: str = STEP, images_seen: int = 320, limit: float = STALL, **more: object
) -> Note:
    known = {"host": f"host-{rank}", "pid": 100 + rank, "number": 7}
    return Note(
        rank=rank,
        doing=doing,
        images_seen=images_seen,
        quiet_seconds=quiet,
        limit_seconds=limit,
        **(known | more),  # type: ignore[arg-type]
    )


def seen(other: Note | None, *, unchanged: float = 0.1) -> Seen:
    return Seen(note=other, unchanged_seconds=unchanged)


def judge(own: Note, *others: Note, **more: object) -> str | None:
    return verdict(own, {other.rank: seen(other) for other in others}, stall_seconds=STALL, **more)  # type: ignore[arg-type]


def test_notes_travel_as_text() -> None:
    own = note(1, quiet=0.5, details="the batch at 3")
    assert Note.from_bytes(own.to_bytes()) == own


def test_nothing_is_said_while_somebody_is_within_its_limit() -> None:
    assert judge(note(0, quiet=9.9)) is None
    assert judge(note(0, quiet=10.1), note(1, quiet=9.0)) is None
    long = note(1, quiet=25, doing="the task `sample`", limit=3 * STALL)
    assert judge(note(0, quiet=24), long) is None, "rank 0 waits for rank 1, which may take that long"
    assert judge(note(0, quiet=31), note(1, quiet=31, doing="the task `sample`", limit=3 * STALL)) is not None


def test_a_silent_process_is_named_and_not_waited_for_longer() -> None:
    frozen = {1: seen(note(1, quiet=0.2), unchanged=9.0), 2: seen(note(2, quiet=10.4))}
    text = verdict(note(0, quiet=10.5, limit=3 * STALL), frozen, stall_seconds=STALL)
    assert text is not None
    assert "rank 1 (host-1, process 101) has given no sign of life for 9 s" in text
    assert "Waiting for the others: rank 0 (a training step), rank 2 (a training step)" in text
    never = verdict(note(0, quiet=10.5), {1: seen(None, unchanged=6.0)}, stall_seconds=STALL)
    assert never is not None
    assert "rank 1 has never written a note" in never
    assert verdict(note(0, quiet=10.5), {1: seen(None)}, stall_seconds=STALL) is None, "its note may be on its way"


def test_who_waits_for_data_is_named_with_what_it_waits_for() -> None:
    starving = note(1, quiet=11, doing=DATA, details="the batch at 320 images, from a.tar")
    text = judge(note(0, quiet=10.5), starving)
    assert text is not None
    assert (
        "rank 1 (host-1, process 101) has been waiting for data for 11 s: the batch at 320 images, from a.tar" in text
    )
    assert "Waiting for the others: rank 0" in text


def test_who_has_fallen_behind_or_does_something_else_is_named() -> None:
    behind = judge(note(0, quiet=11), note(1, quiet=11, images_seen=304), note(2, quiet=11))
    assert behind is not None
    assert "rank 1 (host-1, process 101) is at 304 images (a training step): fallen behind the others" in behind
    apart = judge(note(0, quiet=11), note(1, quiet=11, doing="the task `save`"))
    assert apart is not None
    assert "rank 1 (host-1, process 101) has not come to an end of the task `save` for 11 s" in apart
    together = judge(note(0, quiet=11), note(1, quiet=12))
    assert together is not None
    assert "every process is at the same point (a training step): a collective does not end" in together
    alone = judge(note(0, quiet=11))
    assert alone is not None
    assert "rank 0 (host-0, process 100) is stuck (a training step)" in alone


def test_a_store_that_does_not_answer_is_the_culprit() -> None:
    text = judge(note(1, quiet=10.5), store_silent_seconds=10.4, store="the store at first:29500")
    assert text is not None
    assert "the store at first:29500 has not answered for 10 s" in text
    assert judge(note(1, quiet=2.0), store_silent_seconds=50.0) is None, "training comes on without it"


@pytest.mark.parametrize("quiet", [0.0, 8.0])
def test_an_alarm_of_another_process_ends_this_one_too(quiet: float) -> None:
    assert judge(note(0, quiet=quiet), note(1, quiet=11), alarmed=True) is not None


def test_nothing_is_expected_of_a_process_that_has_ended() -> None:
    gone = seen(note(1, quiet=0.1, ended=True), unchanged=500.0)
    text = verdict(note(0, quiet=11), {1: gone}, stall_seconds=STALL)
    assert text is not None
    assert "rank 1" not in text
