"""The cache of real statistics: found by content, safe for many writers, never trusted when damaged."""

from __future__ import annotations

import logging
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from framework.evaluation.extract import Needs
from framework.evaluation.images import FolderImages
from framework.evaluation.statistics import read, real_statistics, write
from tests.helpers.judged import ALONE, pictures, small_extractor

NEEDS = Needs(moments=frozenset({30}), held=10)


class Counting(torch.nn.Module):
    """A network that counts the images it sees."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += len(images)
        return self.network(images)


def counted() -> tuple[Counting, object]:
    extractor = small_extractor()
    network = Counting(extractor.network)
    return network, replace(extractor, network=network)


def test_computed_once_for_the_same_content_wherever_it_lies(tmp_path: Path) -> None:
    network, extractor = counted()
    for name in ("here", "there"):  # the same pictures in two folders
        pictures(tmp_path / name, count=30, seed=1)
    options = {"session": ALONE, "cache_folder": tmp_path / "cache"}
    first = real_statistics(FolderImages(tmp_path / "here"), extractor, NEEDS, **options)
    assert network.seen == 30
    again = real_statistics(FolderImages(tmp_path / "there"), extractor, NEEDS, **options)
    assert network.seen == 30
    assert torch.equal(first.moments[30].outer, again.moments[30].outer)
    assert torch.equal(first.features, again.features)
    # A further need computes what is new, and keeps the rest.
    real_statistics(FolderImages(tmp_path / "here"), extractor, replace(NEEDS, held=20), **options)
    assert network.seen == 50
    # One pixel more or less is another set.
    changed = next((tmp_path / "there").glob("0007.png"))
    changed.write_bytes((tmp_path / "there" / "0008.png").read_bytes())
    real_statistics(FolderImages(tmp_path / "there"), extractor, NEEDS, **options)
    assert network.seen == 80
    other = replace(extractor, identity=replace(extractor.identity, input="another filter"))
    real_statistics(FolderImages(tmp_path / "here"), other, NEEDS, **options)
    assert network.seen == 110


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all", None], ids=["empty", "foreign", "cut"])
def test_a_damaged_file_is_computed_again(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    network, extractor = counted()
    images = FolderImages(pictures(tmp_path / "real", count=12, seed=1))
    needs, options = Needs(moments=frozenset({12})), {"session": ALONE, "cache_folder": tmp_path / "cache"}
    first = real_statistics(images, extractor, needs, **options)
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        again = real_statistics(images, extractor, needs, **options)
    assert "damaged" in caplog.text
    assert network.seen == 24
    assert torch.equal(first.moments[12].sum, again.moments[12].sum)
    assert read(path, "moments-12") is not None  # mended


def _write_often(path: str, value: float) -> None:
    for _ in range(30):
        write(Path(path), {"features": torch.full((500, 100), value)}, about={})


def test_many_writers_and_readers_see_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_often, args=(str(path), float(n))) for n in range(3)]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        if (found := read(path, "features-500")) is not None:
            assert len(found["features"].unique()) == 1
            seen += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]  # no temporary is left


def test_a_folder_that_cannot_be_written_costs_the_cache_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    images = FolderImages(pictures(tmp_path / "real", count=12, seed=1))
    options = {"session": ALONE, "cache_folder": tmp_path / "file" / "cache"}
    found = real_statistics(images, small_extractor(), Needs(moments=frozenset({12})), **options)
    assert found.moments[12].count == 12
    assert "could not be written" in caplog.text
