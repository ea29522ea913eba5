"""Damaged checkpoints: each is refused with an error that names the file, and the newest whole one takes over."""

import json
import shutil

import pytest

from framework.checkpoint import Checkpoint, CheckpointError, list_checkpoints, newest_valid, resolve
from framework.utils.errors import FrameworkError

STATE = "state-00001-of-00001.safetensors"


def truncate(path):
    with (path / STATE).open("r+b") as file:
        file.truncate((path / STATE).stat().st_size - 1)


def truncate_to_nothing(path):
    (path / STATE).write_bytes(b"")


def flip_bit(path, name=STATE):
    content = bytearray((path / name).read_bytes())
    content[-9] ^= 4
    (path / name).write_bytes(content)


def flip_bit_in_header(path):
    content = bytearray((path / STATE).read_bytes())
    content[20] ^= 1
    (path / STATE).write_bytes(content)


def flip_digit_in_record(path):
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("0.3333", "0.3332"))


def remove_sha(path):
    manifest = path / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["sha256"]
    manifest.write_text(json.dumps(content))


DAMAGES = {
    "truncated": (truncate, rf"{STATE} has \d+ bytes instead of \d+"),
    "emptied": (truncate_to_nothing, rf"{STATE} has 0 bytes instead of"),
    "bit flipped in data": (flip_bit, rf"{STATE} has sha256 \w+... instead of \w+..."),
    "bit flipped in header": (flip_bit_in_header, rf"{STATE} has sha256"),
    "bit flipped in a document": (lambda path: flip_bit(path, "recipe.json"), r"recipe.json has sha256"),
    "file missing": (lambda path: (path / STATE).unlink(), rf"{STATE} is missing"),
    "half-written": (lambda path: (path / "manifest.json").unlink(), r"manifest.json is missing"),
    "manifest cut": (lambda path: (path / "manifest.json").write_text('{"format": 1, "ima'), "not valid JSON"),
    "manifest emptied": (lambda path: (path / "manifest.json").write_text(""), "not valid JSON"),
    "manifest binary": (lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe\x00"), "not valid JSON"),
    "manifest of something else": (lambda path: (path / "manifest.json").write_text("[]"), "`format` is missing"),
    "digit changed in record": (flip_digit_in_record, "does not match its own sha256"),
    "hash removed": (remove_sha, "does not match its own sha256"),
    "future format": (
        lambda path: (path / "manifest.json").write_text('{"format": 2}'),
        "format 2 is unknown, this version reads format 1: upgrade",
    ),
    "empty folder": (lambda path: (shutil.rmtree(path), path.mkdir()), r"manifest.json is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_the_newest_whole_checkpoint_takes_over(folder, build_state, save, assert_holds, damage):
    old, new = build_state(1), build_state(2)
    save(old, 100)
    save(new, 200)
    spoil, message = DAMAGES[damage]
    spoil(folder / "200")

    found, rejected = newest_valid(folder)
    assert found.images_seen == 100
    assert_holds(found, old)
    assert [each.path for each in rejected] == [folder / "200"]
    with pytest.raises(FrameworkError, match=message) as caught:
        raise CheckpointError(rejected[0].why)
    assert str(folder / "200") in str(caught.value)
    assert resolve(folder.parent).images_seen == 100


def test_nothing_valid_lists_every_reason(folder, state, save):
    save(state, 100, 200)
    truncate(folder / "100")
    flip_bit(folder / "200")
    found, rejected = newest_valid(folder)
    assert found is None
    assert [each.path.name for each in rejected] == ["200", "100"]
    with pytest.raises(CheckpointError, match=r"(?s)no valid checkpoint in.*200/state.*sha256.*100/state.*bytes"):
        resolve(folder.parent)


def test_before_looks_only_further_back(folder, state, save):
    save(state, 100, 200, 300)
    assert newest_valid(folder, before=300)[0].images_seen == 200
    assert newest_valid(folder, before=100) == (None, [])


def test_size_level_does_not_read_and_hash_level_does(folder, state, save):
    save(state, 100)
    flip_bit(folder / "100")
    assert newest_valid(folder, level="size")[0].images_seen == 100
    assert newest_valid(folder, level="hash")[0] is None


def test_reading_a_file_damaged_after_opening_is_a_named_error(folder, state, save):
    save(state, 100)
    checkpoint = Checkpoint.open(folder / "100")
    checkpoint.full("generator/weight/stem.weight")  # the file is open now
    with (folder / "100" / STATE).open("r+b") as file:
        file.truncate(900)
    with pytest.raises(CheckpointError, match=rf"{STATE} is damaged at tensor .*ends at byte"):
        checkpoint.full("generator/weight/stem.weight")
    with pytest.raises(CheckpointError, match="has 900 bytes instead of"):
        Checkpoint.open(folder / "100").full("generator/weight/stem.weight")


def test_a_header_that_disagrees_with_the_manifest_is_a_named_error(folder, state, save):
    save(state, 100)
    path = folder / "100" / STATE
    content = path.read_bytes()
    path.write_bytes(content.replace(b"stem.weight", b"stem.weighs"))
    with pytest.raises(CheckpointError, match=r"does not hold generator/weight/stem.weight as the manifest says"):
        Checkpoint.open(folder / "100").full("generator/weight/stem.weight")
    path.write_bytes(b"\xff" * len(content))
    with pytest.raises(CheckpointError, match=rf"{STATE} is damaged: header length"):
        Checkpoint.open(folder / "100").full("generator/weight/stem.weight")
    path.write_bytes(content[:8] + b"x" * (len(content) - 8))
    with pytest.raises(CheckpointError, match=rf"{STATE} is damaged"):
        Checkpoint.open(folder / "100").full("generator/weight/stem.weight")


def test_a_renamed_checkpoint_is_refused(folder, state, save):
    save(state, 100)
    (folder / "100").rename(folder / "300")
    with pytest.raises(CheckpointError, match="300 holds the checkpoint of 100 images"):
        Checkpoint.open(folder / "300")
    (folder / "300").rename(folder.parent / "keep-this-one")
    assert resolve(folder.parent / "keep-this-one").images_seen == 100


def test_a_manifest_cannot_reach_outside_its_folder(folder, state, save):
    from framework.checkpoint.manifest import _digest

    save(state, 100)
    path = folder / "100" / "manifest.json"
    content = json.loads(path.read_text())
    content["files"]["../../secret"] = {"bytes": 1, "sha256": "0"}
    del content["sha256"]
    path.write_text(json.dumps(content | {"sha256": _digest(content)}))
    with pytest.raises(CheckpointError, match=r"'../../secret' is not a plain file name"):
        Checkpoint.open(folder / "100")


def test_other_folders_are_not_checkpoints(folder, state, save):
    save(state, 100)
    for name in ("0200", "1e3", "latest", "200.superseded", ".300-x-1.tmp", ".300-x.deleted", "-5"):
        (folder / name).mkdir()
    (folder / "400").write_text("a file")
    assert list_checkpoints(folder) == [100]
