"""A network of ours in the layout of Hugging Face's tools, with plain names, files of bounded size, index and config.

    config.json                         our network's class and options, from which `read_folder` rebuilds it
    model.safetensors                   everything, if one file holds it; otherwise
    model-00001-of-00003.safetensors    whole tensors in the network's order
    model.safetensors.index.json        name -> file, and the bytes of all tensors

Names are those of the network's `state_dict()`. No more than one file's tensors are in memory at a time, so a network
larger than memory can be written; see https://huggingface.co/docs/hub/safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from framework.checkpoint import Checkpoint
from framework.checkpoint.tensorfile import Entry, read_flat, read_header, save_tensors
from framework.interop.load import Side
from framework.recipe.description import network_from
from framework.utils import bounded
from framework.utils.budget import Budget
from framework.utils.errors import FrameworkError

CONFIG, INDEX, SINGLE = "config.json", "model.safetensors.index.json", "model.safetensors"


def write_folder(checkpoint: Checkpoint, out: Path, *, side: Side, averaged: bool, max_file_bytes: int) -> list[Path]:
    """Write one player of `checkpoint` into the new folder `out` and return its tensor files.

    Args:
        checkpoint: the checkpoint to read.
        out: a new folder, or an empty one.
        side: the player.
        averaged: write the moving average instead of the weights as they were last trained.
        max_file_bytes: the largest size of a file; a larger tensor gets a file of its own.

    Raises:
        FrameworkError: the checkpoint has no such player or average, or `out` exists and is not empty.
    """
    # Look for the player in the checkpoint, and at the folder.
    recipe = checkpoint.document("recipe.json")
    keys = _keys(checkpoint, side, averaged=averaged)
    if side not in recipe or not keys:
        raise FrameworkError(f"{checkpoint.path} holds no {'average of the ' if averaged else ''}{side}")
    with bounded.decoding(checkpoint.path / "recipe.json"):
        described = recipe[side]["network"]
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FrameworkError(f"--out {out}: choose a new folder")
    out.mkdir(parents=True, exist_ok=True)
    # Tensor files, one in memory at a time.
    groups = list(_grouped(checkpoint, keys, max_file_bytes))
    names = [f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors" for i in range(len(groups))]
    if len(groups) == 1:
        names = [SINGLE]
    for name, group in zip(names, groups, strict=True):
        tensors = {short: checkpoint.full(keys[short]) for short in group}
        save_tensors(out / name, tensors, metadata={"format": "pt"})
    # The documents beside them.
    config = {"player": side, "images": checkpoint.images_seen, "averaged": averaged, "network": described}
    (out / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    if len(groups) > 1:
        total = sum(_bytes(checkpoint, key) for key in keys.values())
        places = {short: name for name, group in zip(names, groups, strict=True) for short in group}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (out / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return [out / name for name in names]


@torch.no_grad()
def read_folder(folder: Path, *, classes: Mapping[str, type[nn.Module]] | None = None) -> nn.Module:
    """Return the network in such a folder, in evaluation mode; tensors are read one by one, and nothing is unpickled.

    Args:
        folder: a folder that `write_folder` has written.
        classes: network classes from outside the framework that may be built; see `network_from`.

    Raises:
        FrameworkError: a file is missing, or names and shapes are not this network's.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        raise FrameworkError(f"{folder} has no {CONFIG}: it was not written by `framework export --to huggingface`")
    # Build the network that the config describes, no larger than the tensors in the files.
    files = _files(folder)
    headers = {name: _header(folder / name) for name in files}
    budget = Budget.of(entry.shape for entries in headers.values() for entry in entries.values())
    network = network_from(bounded.read_object(folder / CONFIG).get("network"), budget=budget, classes=classes)
    # Fill it, one tensor at a time.
    state = network.state_dict()
    missing = set(state)
    for name, entries in headers.items():
        with bounded.open_regular(folder / name) as file:
            for short, entry in entries.items():
                if short not in state or tuple(state[short].shape) != entry.shape:
                    raise FrameworkError(f"{folder / name}: {short} {entry.shape} is not of this network")
                with bounded.decoding(folder / name):
                    tensor = torch.empty(entry.shape, dtype=entry.dtype)
                    read_flat(file.fileno(), entry, 0, tensor.view(-1))
                state[short].copy_(tensor)
                missing.discard(short)
    if missing:
        raise FrameworkError(f"{folder} lacks {len(missing)} tensors of the network, for example {min(missing)}")
    return network.eval()


def _files(folder: Path) -> list[str]:
    """Return the tensor files that the index names; a name must not lead out of the folder."""
    if not (folder / INDEX).exists():
        return [SINGLE]
    places = bounded.read_object(folder / INDEX).get("weight_map")
    if not bounded.is_texts(places) or any(name != Path(name).name for name in places.values()):
        raise FrameworkError(f"{folder / INDEX} is damaged: weight_map must map names to files of the folder")
    return sorted(set(places.values()))


def _header(path: Path) -> dict[str, Entry]:
    try:
        with bounded.open_regular(path) as file, bounded.decoding(path):
            return read_header(file)[0]
    except FileNotFoundError:
        raise FrameworkError(f"{path} is missing; the network cannot be read without it") from None


def _keys(checkpoint: Checkpoint, side: Side, *, averaged: bool) -> dict[str, str]:
    """Return name in the network -> key in the checkpoint, in the checkpoint's order."""
    kinds = ("ema", "ema_buffer") if averaged else ("weight", "buffer")
    prefixes = [f"{side}/{kind}/" for kind in kinds]
    return {key.removeprefix(prefix): key for prefix in prefixes for key in checkpoint.keys(prefix)}


def _grouped(checkpoint: Checkpoint, keys: dict[str, str], max_file_bytes: int) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for short, key in keys.items():
        num_bytes = _bytes(checkpoint, key)
        if group and size + num_bytes > max_file_bytes:
            yield group
            group, size = [], 0
        group.append(short)
        size += num_bytes
    yield group


def _bytes(checkpoint: Checkpoint, key: str) -> int:
    return math.prod(checkpoint.shape(key)) * checkpoint.dtype(key).itemsize
