"""What sharded processes save: whole averaged tensors with an index, in bounded memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from benchmarks.checkpoint_memory import SLACK_BYTES, Stack, measure

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(300)]


@pytest.mark.parametrize("engine", ["zero2", "zero3", "fsdp2"])
def test_a_sharded_average_is_saved_whole_and_no_process_holds_it_all(engine: str, tmp_path: Path) -> None:
    row = measure(engine, str(tmp_path))
    mib = {name: round(value / 2**20) for name, value in row.items() if isinstance(value, int)}
    print(f"{engine}, MiB: {mib}")
    bound = row["share"] + row["largest_tensor"] + SLACK_BYTES
    assert row["save_1"] <= bound < row["whole_state"]
    assert row["save_2"] <= row["largest_tensor"] + SLACK_BYTES, "the copy of the first save is used again"
    # ZeRO-2 computes with whole parameters: after a load DeepSpeed gathers them anew.
    parameters = row["whole_state"] // 4
    assert row["load"] <= SLACK_BYTES + (parameters if engine == "zero2" else 0)

    folder = tmp_path / "2"
    expected = {f"generator/ema/{name}": tensor for name, tensor in Stack().state_dict().items()}
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    assert index["weight_map"].keys() == expected.keys()
    assert set(index["weight_map"].values()) == {f"model-0000{rank}-of-00002.safetensors" for rank in (1, 2)}
    for key, file in index["weight_map"].items():
        with safe_open(folder / file, "pt") as opened:
            assert torch.equal(opened.get_tensor(key), expected[key]), key
    cut = json.loads((folder / "state.safetensors.index.json").read_text())["weight_map"]
    for key, file in cut.items():
        with safe_open(folder / file, "pt") as opened:
            assert key in opened.keys()  # noqa: SIM118 (not a mapping)
