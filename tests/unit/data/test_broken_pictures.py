"""A picture that cannot be decoded, or not in the memory there is: shard and key, or the file, whoever reads it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from framework.data.errors import DataError, ShardError
from framework.data.inspection import find_faults
from framework.data.packing.images import open_upright
from framework.data.readers import BadImageError
from framework.data.stream import open_stream
from framework.evaluation.errors import EvaluationError
from framework.evaluation.images import FolderImages, ShardImages
from framework.utils.bounded import decoding
from framework.utils.errors import FrameworkError
from tests.unit.data.stream_helpers import destroy_picture, encoded, make_set

SHARD = "train-000000.tar"


def _train(folder: Path) -> None:
    stream = open_stream(folder, resolution=16, workers=0)
    with stream.batches(0, batch_size=2, stop=stream.count) as batches:
        list(batches)


def _train_skipping(folder: Path) -> None:
    stream = open_stream(folder, resolution=16, workers=0, on_bad_sample="skip")
    with stream.batches(0, batch_size=2, stop=stream.count) as batches:
        list(batches)


def _verify(folder: Path) -> None:
    found = find_faults(str(folder))
    assert found.num_decoded == 4
    raise DataError(" | ".join(found.faults))


def _evaluate(folder: Path) -> None:
    images = ShardImages(str(folder))
    list(images.parts(count=images.count, rank=0, world=1))


@pytest.mark.parametrize("read", [_train, _verify, _evaluate])
def test_a_broken_picture_is_named_by_shard_and_key(tmp_path: Path, read: Callable[[Path], None]) -> None:
    folder = make_set(tmp_path / "a", sizes=(4,), side=16)
    key = destroy_picture(folder / SHARD, 2)
    with pytest.raises(DataError, match=rf"a/{SHARD}, sample {key}: \.png is unusable: cannot identify"):
        read(folder)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that is given no memory for its pixels."""

    def load(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize("read", [_train, _train_skipping, _verify, _evaluate])
def test_a_decoder_without_memory_is_named_and_not_skipped(tmp_path: Path, read: Callable[[Path], None]) -> None:
    folder = make_set(tmp_path / "a", sizes=(4,), side=16)
    with pytest.raises(
        DataError, match=rf"a/{SHARD}, sample 00000000\d: \.png needs more memory than there is"
    ) as caught:
        read(folder)
    assert not isinstance(caught.value, ShardError)


@pytest.mark.usefixtures("no_memory")
def test_files_name_themselves_when_there_is_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(0, 16, 3, "png"))
    with pytest.raises(EvaluationError, match=r"a\.png: cannot be read as a picture \(needs more memory"):
        list(FolderImages(tmp_path).parts(count=1, rank=0, world=1))
    with pytest.raises(BadImageError, match="needs more memory than there is"):
        open_upright((tmp_path / "a.png").read_bytes())


def test_any_decoder_without_memory_is_a_named_error() -> None:
    with pytest.raises(FrameworkError, match="thing asks for more memory than there is"), decoding("thing"):
        raise MemoryError
