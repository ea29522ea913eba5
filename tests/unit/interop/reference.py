"""BigGAN's generators written out plainly from the paper (arXiv:1809.11096), on the peers' own names: an oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Names:
    """What a project calls things."""

    linear: str
    blocks: Sequence[str]
    convolution: str
    shortcut: str
    attention: str
    attention_layers: Sequence[str]
    """theta, phi, g, o, gamma"""
    attention_after: int
    statistics: Sequence[str]
    """Of a conditional norm."""
    final_norm: Sequence[str]
    """gain, bias, mean, variance"""
    to_image: str
    eps: float


def weight(state: State, name: str) -> Tensor:
    """Divided by its largest singular value, as estimated by the vectors of the state."""
    if f"{name}.weight_orig" in state:
        w, u, v = (state[f"{name}.weight_{end}"] for end in ("orig", "u", "v"))
        return w / (u @ w.flatten(1) @ v)
    w = state[f"{name}.weight"]
    if f"{name}.u0" not in state:
        return w
    v = functional.normalize(state[f"{name}.u0"][0] @ w.flatten(1), dim=0)
    return w / (w.flatten(1) @ v).norm()


def convolved(state: State, name: str, x: Tensor) -> Tensor:
    w = weight(state, name)
    return functional.conv2d(x, w, state.get(f"{name}.bias"), padding=w.shape[-1] // 2)


def normalized(state: State, name: str, names: Names, x: Tensor, condition: Tensor) -> Tensor:
    mean, variance = (state[f"{name}.{end}"][:, None, None] for end in names.statistics)
    gain, bias = ((condition @ weight(state, f"{name}.{end}").T)[:, :, None, None] for end in ("gain", "bias"))
    return (x - mean) / (variance + names.eps).sqrt() * (1 + gain) + bias


def attended(state: State, names: Names, x: Tensor) -> Tensor:
    theta, phi, g, o, gamma = (f"{names.attention}.{layer}" for layer in names.attention_layers)
    queries = convolved(state, theta, x).flatten(2)
    keys = functional.max_pool2d(convolved(state, phi, x), 2).flatten(2)
    values = functional.max_pool2d(convolved(state, g, x), 2).flatten(2)
    shares = torch.softmax(torch.einsum("ncq,nck->nqk", queries, keys), dim=2)
    mixed = torch.einsum("nqk,nck->ncq", shares, values).view(len(x), -1, *x.shape[2:])
    return x + state[gamma] * convolved(state, o, mixed)


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def generator(state: State, names: Names, z: Tensor, labels: Tensor, *, deep: bool) -> Tensor:
    """Images of BigGAN (hierarchical if its norms are wider than the class embedding) or BigGAN-deep, depth 2."""
    embedded = state["shared.weight"][labels]
    first_gain = weight(state, f"{names.blocks[0]}.bn1.gain")
    if deep:
        first, conditions = torch.cat([embedded, z], 1), [torch.cat([embedded, z], 1)] * len(names.blocks)
    elif first_gain.shape[1] > embedded.shape[1]:
        first, *rest = z.chunk(len(names.blocks) + 1, dim=1)
        conditions = [torch.cat([embedded, part], 1) for part in rest]
    else:
        first, conditions = z, [embedded] * len(names.blocks)
    x = first @ weight(state, names.linear).T + state[f"{names.linear}.bias"]
    x = x.view(len(z), -1, 4, 4)
    for index, (block, condition) in enumerate(zip(names.blocks, conditions, strict=True)):
        up = index % 2 == 1 if deep else True
        y = x
        for number in (1, 2, 3, 4) if deep else (1, 2):
            y = normalized(state, f"{block}.bn{number}", names, y, condition).relu()
            y = doubled(y) if up and number == (2 if deep else 1) else y
            y = convolved(state, f"{block}.{names.convolution}{number}", y)
        x = doubled(x) if up else x
        x = y + (x[:, : y.shape[1]] if deep else convolved(state, f"{block}.{names.shortcut}", x))
        if index == names.attention_after:
            x = attended(state, names, x)
    gain, bias, mean, variance = (state[name][:, None, None] for name in names.final_norm)
    x = (x - mean) / (variance + names.eps).sqrt() * gain + bias
    return convolved(state, names.to_image, x.relu()).tanh()
