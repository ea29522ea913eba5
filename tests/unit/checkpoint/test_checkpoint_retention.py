"""Which checkpoints stay, and what happens to those of an abandoned course."""

import json
import logging
import os

import pytest

from framework.checkpoint import (
    Checkpoint,
    CheckpointError,
    Retention,
    list_checkpoints,
    newest_valid,
    read_scores,
    record_score,
    to_delete,
)
from framework.checkpoint.layout import temporary_folder

TEN = range(100, 1100, 100)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Retention(), [800, 900, 1000]),
        (Retention(last=1), [1000]),
        (Retention(last=None), list(TEN)),
        (Retention(last=50), list(TEN)),
        (Retention(last=1, every_images=300), [300, 600, 900, 1000]),
        (Retention(last=1, every_images=250), [300, 500, 800, 1000]),  # the first at or after 250, 500, 750, 1000
        (Retention(last=1, best=2), [300, 700, 1000]),
        (Retention(last=1, best=2, lower_is_better=False), [500, 900, 1000]),
        (Retention(last=2, every_images=500, best=1), [300, 500, 900, 1000]),
        (Retention(last=1, best=99), [200, 300, 500, 700, 900, 1000]),
    ],
)
def test_rules(policy, kept):
    scores = {300: 1.5, 700: 2.5, 500: 9.0, 900: 9.0, 200: 8.0}
    assert to_delete(TEN, scores, policy) == [count for count in TEN if count not in kept]


def test_of_equal_scores_the_newest_is_best():
    assert to_delete([1, 2, 3], {1: 5.0, 2: 5.0}, Retention(last=1, best=1)) == [1]


def test_keeping_one_per_interval_is_stable_while_checkpoints_come_and_go():
    """Clocks that never hit the multiple exactly (batches of 96): the kept ones stay the kept ones."""
    policy, existing = Retention(last=2, every_images=10_000), []
    for count in range(960, 60_000, 960):
        existing.append(count)
        existing = [c for c in existing if c not in to_delete(existing, {}, policy)]
    assert existing == [10560, 20160, 30720, 40320, 50880, 58560, 59520]


@pytest.mark.parametrize("wrong", [{"last": 0}, {"last": -1}, {"every_images": 0}, {"best": -1}])
def test_impossible_policies_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Retention(**wrong)


def test_the_writer_applies_it_and_leaves_no_trace(folder, state, save):
    save(state, *range(100, 800, 100), retention=Retention(last=2, every_images=400))
    assert sorted(os.listdir(folder)) == ["400", "600", "700"]


def test_best_checkpoints_stay(folder, state, save):
    policy = Retention(last=1, best=1, score="fid")
    for count, fid in ((100, 30.0), (200, 12.5), (300, 20.0), (400, 25.0)):
        save(state, count, retention=policy)
        record_score(folder / str(count), "fid", fid)
        record_score(folder / str(count), "kid", -fid)
    assert list_checkpoints(folder) == [200, 400]
    assert read_scores(folder / "200") == {"fid": 12.5, "kid": -12.5}
    Checkpoint.open(folder / "200").verify("hash")  # a score is no part of what was saved


def test_the_best_by_a_former_score_stay_too(folder, state, save):
    policy = Retention(last=1, best=1, score="fid-new", former_scores=("fid-old",))
    for count, name, value in ((100, "old", 3.0), (200, "old", 1.0), (300, "new", 50.0), (400, "new", 60.0)):
        save(state, count, retention=policy)
        record_score(folder / str(count), f"fid-{name}", value)
    save(state, 500, retention=policy)
    assert list_checkpoints(folder) == [200, 300, 500], "one of each: 1.0 and 50.0 cannot be compared"


def test_scores_that_cannot_be_compared_or_read(folder, state, save, caplog):
    save(state, 100)
    with pytest.raises(CheckpointError, match="not a finite number"):
        record_score(folder / "100", "fid", float("nan"))
    assert read_scores(folder / "100") == {}
    with pytest.raises(CheckpointError, match=r"cannot record score fid at .*999"):
        record_score(folder / "999", "fid", 1.0)
    (folder / "100" / "scores.json").write_text(json.dumps({"fid": "good"}))
    with pytest.raises(CheckpointError, match=r"scores.json must map names to numbers"):
        read_scores(folder / "100")
    save(state, 200, 300, retention=Retention(last=1, best=1))  # saved all the same; nothing deleted on a guess
    assert list_checkpoints(folder) == [100, 200, 300]
    assert {entry.levelno for entry in caplog.records} == {logging.ERROR}
    assert "is saved, but old ones could not be tidied up" in caplog.text


def test_a_run_that_went_back_does_not_return_to_the_abandoned_course(folder, build_state, save, assert_holds):
    """300 and 400 are damaged; the run resumes from 200. Keeping `last=1` must not keep 400 and delete 200 and 250."""
    for count in (100, 200, 300, 400):
        save(build_state(count), count)
    for count in (300, 400):
        (folder / str(count) / "state-00001-of-00001.safetensors").write_bytes(b"damaged")
    found, rejected = newest_valid(folder)
    assert (found.images_seen, len(rejected)) == (200, 2)
    save(build_state(250), 250, retention=Retention(last=1))
    found, rejected = newest_valid(folder)
    assert not rejected
    assert_holds(found, build_state(250))
    assert sorted(os.listdir(folder)) == ["250", "300.superseded", "400.superseded"]
    save(build_state(300), 300, 400, retention=Retention(last=1))
    assert sorted(os.listdir(folder)) == ["300.superseded", "400", "400.superseded"]
    save(build_state(300), 300, retention=Retention(last=1))  # back again: one copy is kept, the latest
    assert sorted(os.listdir(folder)) == ["300", "300.superseded", "400.superseded"]
    Checkpoint.open(folder / "400.superseded").verify("hash")


def test_a_checkpoint_of_the_same_images_is_replaced(folder, build_state, save, assert_holds):
    save(build_state(1), 100, 200)
    save(build_state(2), 200, token="second")
    assert sorted(os.listdir(folder)) == ["100", "200"]
    assert_holds(newest_valid(folder)[0], build_state(2))


def test_a_replacement_cut_in_the_middle_is_found_under_its_name(folder, state, save, assert_holds):
    save(state, 100, 200)
    (folder / "200").rename(folder / ".200-gone-1.replaced")
    temporary_folder(folder, images_seen=200, token="gone", sequence=1).mkdir()
    assert list_checkpoints(folder) == [100, 200]
    assert_holds(Checkpoint.open(folder / "200"), state)
    assert newest_valid(folder)[0].images_seen == 200
    save(state, 300)
    assert sorted(os.listdir(folder)) == ["100", "200", "300"]


def test_what_cannot_be_deleted_is_reported_and_does_not_stop_the_run(folder, state, save, monkeypatch, caplog):
    def refuse(path):
        raise OSError(39, "Directory not empty", str(path))

    save(state, 100)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        save(state, 200, retention=Retention(last=1))
    assert list_checkpoints(folder) == [200]
    assert "left over" in caplog.text
    save(state, 300, retention=Retention(last=2), token="next")
    assert sorted(os.listdir(folder)) == ["200", "300"]
