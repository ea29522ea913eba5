"""Copies of the state that differ by one unit in the last place: named by process and tensor, and never saved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from framework.checkpoint import Checkpoint, list_checkpoints
from framework.data.pack import pack
from framework.runtime.session import Session
from framework.train.drift import DriftError, _message, check_drift, checksum, deviations, replicated
from tests.helpers.families import FAMILIES
from tests.helpers.launch import ROOT, Launch
from tests.helpers.play import small_recipe, smooth_recipe, start, steps
from tests.helpers.spawn import run_ranks

ENGINES = ("ddp", "zero1", "zero2", "zero3", "fsdp2")
WEIGHT = "discriminator/weight/embedding.parametrizations.weight.original"
MOMENT = "generator/exp_avg_sq/conv.parametrizations.weight.original"
AVERAGE = "generator/ema/to_image.bias"
BUFFER = "generator/buffer/norm1.norm.running_var"
AVERAGED_BUFFER = "generator/ema_buffer/norm2.norm.running_mean"
CAUSES = {
    WEIGHT: "a parameter, or .* something writes to it outside the optimiser",
    MOMENT: "a parameter, or what its optimiser",
    AVERAGE: "a parameter, or what its optimiser or average",
    BUFFER: "a running statistic: usually a torch.nn.BatchNorm",
    AVERAGED_BUFFER: "a running statistic: usually a torch.nn.BatchNorm",
}
WHOLE = {  # what every process holds a copy of, by engine
    "ddp": (WEIGHT, MOMENT, AVERAGE, BUFFER, AVERAGED_BUFFER),
    "zero1": (WEIGHT, BUFFER, AVERAGED_BUFFER),
    "zero2": (WEIGHT, BUFFER, AVERAGED_BUFFER),
    "zero3": (BUFFER, AVERAGED_BUFFER),
    "fsdp2": (BUFFER, AVERAGED_BUFFER),
}


def here() -> Session:
    rank, world = dist.get_rank(), dist.get_world_size()
    return Session(rank=rank, world=world, local_rank=rank, device=torch.device("cpu"))


@torch.no_grad()
def nudge(tensor: Tensor) -> None:
    """The last element, by one unit in the last place."""
    last = tensor.reshape(-1)[-1:].clone()
    tensor.view(-1)[-1:] = torch.nextafter(last, torch.full_like(last, torch.inf))


def corrupted(engine: str) -> dict[str, str]:
    """Play, compare, corrupt each kind of copy on rank 1 in turn; what was said."""
    played = start(smooth_recipe(), engine=engine)
    steps(played, count=4)
    session, said = here(), {}
    check_drift(played.state, played.state.record(), session=session, images_seen=48)  # raises on a false alarm
    known = dict(replicated(played.state))
    for key in WHOLE[engine]:
        kept = known[key].clone()
        if session.rank == 1:
            nudge(known[key])
        with pytest.raises(DriftError) as caught:
            check_drift(played.state, {}, session=session, images_seen=48)
        with torch.no_grad():
            known[key].copy_(kept)
        said[f"{engine} {key}"] = str(caught.value)
    with pytest.raises(DriftError) as caught:
        check_drift(played.state, {"steps_taken": session.rank}, session=session, images_seen=48)
    said[f"{engine} record"] = str(caught.value)
    check_drift(played.state, {}, session=session, images_seen=48)
    for player in played.state.players.values():
        player.close()
    return said


def every_engine_and_family() -> dict[str, Tensor]:
    """What was said of every corruption, as bytes by engine and key; and three compared steps of every family."""
    said: dict[str, str] = {}
    for engine in ENGINES:
        said |= corrupted(engine)
    recipes = {"SAGAN": small_recipe(), **FAMILIES}
    for recipe in recipes.values():
        played = start(recipe)
        for count in range(3):
            steps(played, begin=count * played.game.images_of_step(0), count=1)
            check_drift(played.state, played.state.record(), session=here(), images_seen=count)
    said["families"] = str(len(recipes))
    return {key: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) for key, text in said.items()}


@pytest.mark.distributed
@pytest.mark.timeout(600)
def test_one_unit_in_the_last_place_is_named_on_every_process_and_nothing_else_is() -> None:
    results = run_ranks(every_engine_and_family, 2, timeout_seconds=500.0)
    said, other = ({key: bytes(text.tolist()).decode() for key, text in found.items()} for found in results)
    assert said == other, "the verdict is the same everywhere"
    for engine in ENGINES:
        for key in WHOLE[engine]:
            pattern = rf"at 48 images rank 1 differs from rank 0 in {re.escape(key)} \(by \d\.\de-\d+\)"
            assert re.search(pattern, said[f"{engine} {key}"]), said[f"{engine} {key}"]
            assert re.search(rf"{re.escape(key)} is {CAUSES[key]}.*suspect the memory", said[f"{engine} {key}"])
        assert "rank 1 differs from rank 0 in small states" in said[f"{engine} record"]
        assert "is remembered between turns: usually a penalty" in said[f"{engine} record"]
        print(f"{engine}: one unit in the last place named on both: {[key.split('/')[1] for key in WHOLE[engine]]}")
    print(f"{said['families']} families, 3 steps each on 2 processes: copies equal to the bit, no alarm")


@pytest.mark.distributed
@pytest.mark.timeout(600)
def test_a_corrupted_launch_stops_before_it_saves(tmp_path: Path) -> None:
    data, out = tmp_path / "fashion8", tmp_path / "run"
    pack(ROOT / "recipes/data/fashion_mnist", data, resolution=8, resize_filter="box", progress=False)
    flags = ("--images", "640", "--save-every-images", "160", "--log-every-images", "160", "--tracking", "none")
    program = ROOT / "tests/recipes/corrupted.py"
    where = ("--data", str(data), "--out", str(out))
    with Launch(program, *flags, *where, log=tmp_path / "log", extra={"CORRUPT_AT_IMAGES": "208"}) as launch:
        assert launch.wait() != 0
        text = launch.text()
    for rank in (0, 1):
        assert f"error: rank {rank}: the copies of the state have come apart: at 320 images rank 1 differs" in text
    assert WEIGHT in text
    assert list_checkpoints(out / "checkpoints") == [160]
    Checkpoint.open(out / "checkpoints/160").verify("hash")
    print(
        "one weight of rank 1 nudged at 208 images, saves every 160: found at 320, checkpoint 160 is sound, 160 images "
        "to be repeated"
    )


def test_the_usual_cause_is_told_by_the_kind_of_tensor_and_statistics_first() -> None:
    weight, plain = "generator/weight/first.weight", "discriminator/buffer/mean"
    norm = "generator/buffer/norm.num_batches_tracked"
    texts = [
        _message({name: [1] for name in names}, {}, images_seen=8, world=2) for names in ([weight], [weight, plain])
    ]
    assert f"{weight} is a parameter" in texts[0]
    assert f"{plain} is a buffer: usually a forward changes it" in texts[1]
    assert "networks.blocks.moving.MovingMean" in texts[1]
    assert f"{norm} is a running statistic" in _message(
        {key: [1] for key in (weight, plain, norm)}, {}, images_seen=8, world=2
    )
    for text in texts:
        assert text.index("usually") < text.index("suspect the memory"), "programs first, machines last"


def test_the_minority_is_blamed_and_without_a_majority_whoever_differs_from_rank_0() -> None:
    names = ["a", "b", "c"]
    assert deviations(names, [[1, 2, 3], [1, 2, 3], [1, 9, 3]]) == {"b": [2]}
    assert deviations(names, [[7, 2, 3], [1, 2, 3], [1, 2, 3]]) == {"a": [0]}
    assert deviations(names, [[1, 2, 3], [1, 2, 4]]) == {"c": [1]}
    assert deviations(names, [[1, 2, 3], [5, 2, 3], [5, 2, 3], [1, 2, 3]]) == {"a": [1, 2]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("count", [0, 1, 3, 4096, 100_003])
def test_a_checksum_sees_every_bit_and_its_place(dtype: torch.dtype, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    tensor = torch.randint(0, 2, (count,), generator=generator).to(dtype)
    total = int(checksum(tensor))
    assert total == int(checksum(tensor.clone()))
    assert total == int(checksum(torch.cat([tensor[:1], tensor])[1:])), "wherever it begins in memory"
    for place in {0, count // 2, count - 1} if count else set():
        other = tensor.clone()
        other[place] = 1 - other[place].to(torch.int64)
        assert int(checksum(other)) != total
        ones = (tensor == 1).nonzero().flatten()
        if 0 < len(ones) < count:
            moved = tensor.clone()
            zero = int((tensor == 0).nonzero()[0])
            moved[zero], moved[ones[0]] = 1, 0
            assert int(checksum(moved)) != total, "a sum alone would not see this"


def test_a_checksum_sees_swapped_rows_and_columns() -> None:
    tensor = torch.randn(8, 2 * 4096, generator=torch.Generator().manual_seed(0))
    for other in (tensor.flip(0), tensor.flip(1), tensor[[1, 0, *range(2, 8)]], tensor.roll(2 * 4096)):
        assert int(checksum(other)) != int(checksum(tensor))
    assert int(checksum(torch.tensor([0.0]))) != int(checksum(torch.tensor([-0.0])))
