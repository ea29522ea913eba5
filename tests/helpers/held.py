"""What a process holds: the bytes of every live tensor's storage, each counted once, by what it is for.

Roots are the engine's own objects (optimiser, reducer, DeepSpeed's and FSDP2's inside) and the average. A second count
goes over every tensor that Python knows of: what no root explains is `other`, so nothing held can stay unseen.
"""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from torch import Tensor

from tests.helpers.play import Played

KINDS = ("parameters", "gradients", "moments", "average", "buffers", "other")


def held(played: Played, *, other: bool = True) -> dict[str, int]:
    """Bytes by kind; `other=False` leaves out the count over all tensors, which is slow."""
    storages = _claimed(played)
    totals = dict.fromkeys(KINDS, 0)
    for kind, size in storages.values():
        totals[kind] += size
    if other:
        totals["other"] = sum(size for size, _ in _unexplained(storages).values())
    return totals


def gradient_bytes(engine: Any) -> int:
    """Bytes of one player's gradients now."""
    storages = [_plain(tensor).untyped_storage() for tensor in _gradients(engine)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def unexplained(played: Played) -> list[str]:
    """Storages of a mebibyte or more that no root explains, in words."""
    return sorted(words for size, words in _unexplained(_claimed(played)).values() if size >= 2**20)


def _claimed(played: Played) -> dict[int, tuple[str, int]]:
    """Storage address -> kind and bytes; what is claimed first counts."""
    storages: dict[int, tuple[str, int]] = {}

    def claim(kind: str, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = _plain(tensor).untyped_storage()
            if storage.nbytes() > 0:
                storages.setdefault(storage.data_ptr(), (kind, storage.nbytes()))

    average = played.state.averages["generator"]
    claim("average", average.weights.values())
    claim("buffers", average.buffers.values())
    for engine in played.state.players.values():
        claim("moments", (v for state in engine._optimizer.state.values() for v in state.values()))
        claim("gradients", _gradients(engine))
        claim("parameters", _parameters(engine))
        claim("buffers", engine.network.buffers())
    return storages


def _unexplained(storages: dict[int, tuple[str, int]]) -> dict[int, tuple[int, str]]:
    found: dict[int, tuple[int, str]] = {}
    gc.collect()
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor) and thing.device.type != "meta":  # some proxies wake up when asked
            storage = _plain(thing).untyped_storage()
            if storage.nbytes() > 0 and storage.data_ptr() not in storages:
                words = f"{tuple(thing.shape)} {thing.dtype}, {storage.nbytes() / 2**20:.1f} MiB"
                found[storage.data_ptr()] = (storage.nbytes(), words)
    return found


def _plain(tensor: Tensor) -> Tensor:
    return getattr(tensor, "_local_tensor", tensor).detach()


def _gradients(engine: Any) -> Iterator[Tensor]:
    for parameter in engine.network.parameters():
        if parameter.grad is not None:
            yield parameter.grad
    for bucket in getattr(getattr(engine, "_reducer", None), "_buckets", ()):
        yield bucket.flat
    for name, value in _inside(engine):
        if "grad" in name or "ipg" in name:
            yield from _tensors(value)
        for tensor in _tensors(value):
            if tensor.is_leaf and tensor.grad is not None:
                yield tensor.grad


def _parameters(engine: Any) -> Iterator[Tensor]:
    for parameter in engine.network.parameters():
        yield parameter
        if hasattr(parameter, "ds_tensor"):
            yield parameter.ds_tensor
    for name, value in _inside(engine):
        if "grad" not in name and "ipg" not in name:
            yield from _tensors(value)


def _inside(engine: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of DeepSpeed's optimiser, or of every FSDP2 parameter."""
    if hasattr(engine, "_zero"):
        # Its optimiser is torch's own, whose state is counted as moments; parameters appear under their own roots.
        yield from ((k, v) for k, v in vars(engine._zero).items() if k not in ("optimizer", "param_dict"))
    for unit in getattr(engine, "_units", ()):
        for group in unit._get_fsdp_state()._fsdp_param_groups:
            for parameter in group.fsdp_params:
                yield from vars(parameter).items()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif is_dataclass(value):  # a bucket of gradients
        yield from _tensors(vars(value))


@dataclass
class Peak:
    """The most of each kind held at once, looked at wherever a layer begins, forward and backward."""

    played: Played
    most: dict[str, int] = field(default_factory=dict)
    _hooks: list[Any] = field(default_factory=list)

    def __enter__(self) -> Peak:
        for engine in self.played.state.players.values():
            for module in engine.network.modules():
                if any(True for _ in module.parameters(recurse=False)):
                    self._hooks.append(module.register_forward_hook(self._forward))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _forward(self, module: Any, inputs: Any, output: Any) -> None:
        self.look()
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(lambda _: self.look())

    def look(self) -> None:
        """Note what is held now."""
        for kind, size in held(self.played, other=False).items():
            self.most[kind] = max(self.most.get(kind, 0), size)


def peak_resident_bytes() -> int:
    """The most memory this process ever had (Linux): with Python, libraries and activations."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
