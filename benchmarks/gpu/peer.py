"""StyleGAN2 at 256 px by its authors' program, on the same card in the same session.

Give a checkout of NVlabs/stylegan3 (`--peer`); its licence does not allow it here. Where its CUDA kernels cannot be
built (no nvcc), it computes with its own reference operations, and the finding says so. Networks and penalties are
those of `recipes/stylegan2_ffhq256.py`, whose pace, at the same batch, stands under the item `speed`. Theirs is fp16 at
the four finest resolutions.
"""

from __future__ import annotations

import copy
import importlib
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from packaging.version import parse
from torch import Tensor

from benchmarks.gpu.job import Job, allow_tf32, synchronize

OPERATIONS = ("bias_act", "upfirdn2d", "filtered_lrelu")
"""Modules of the checkout with kernels of their own."""
HALF_LIFE_IMAGES = 10_000


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is timed."""

    resolution: int = 256
    batch_size: int = 32
    channel_base: int = 16_384
    fp16_resolutions: int = 4
    warm_up: int = 3
    steps: int = 16
    """A cycle of both lazy penalties."""


REHEARSED = Setting(resolution=16, batch_size=4, channel_base=128, fp16_resolutions=0, warm_up=0, steps=1)
PHASES = (("G", "main", 1), ("G", "reg", 4), ("D", "main", 1), ("D", "reg", 16))
"""Player, part of its loss, every so many steps: arXiv:1912.04958, appendix B."""


def peer(job: Job) -> None:
    """Their pace, in the fields of `speed`."""
    checkout = job.inputs.peer
    if checkout is None:
        job.findings.add(skipped="give the folder of a checkout of NVlabs/stylegan3: --peer FOLDER")
        return
    setting = REHEARSED if job.rehearsal else Setting()
    kernels = _prepare(checkout, device=job.device)
    torch.backends.cudnn.benchmark = True  # as their training loop sets it
    allow_tf32(False)
    game = PeerGame(setting, device=job.device)
    for _ in range(setting.warm_up):
        game.step()
    synchronize(job.device)
    began = time.perf_counter()
    for _ in range(setting.steps):
        game.step()
    synchronize(job.device)
    seconds_per_image = (time.perf_counter() - began) / (setting.steps * setting.batch_size)
    peak = torch.cuda.max_memory_allocated(job.device) / 2**30 if job.device.type == "cuda" else None
    job.findings.add(
        resolution=setting.resolution,
        batch_size=setting.batch_size,
        kernels=kernels,
        s_per_kimg=round(1000 * seconds_per_image, 3),
        images_per_s=round(1 / seconds_per_image, 2),
        peak_gib=None if peak is None else round(peak, 2),
    )


class PeerGame:
    """Their networks and loss in the order of their training loop, on random pictures, without augmentation."""

    def __init__(self, setting: Setting, *, device: torch.device) -> None:
        networks: Any = importlib.import_module("training.networks_stylegan2")
        losses: Any = importlib.import_module("training.loss")
        size = {"c_dim": 0, "img_resolution": setting.resolution, "img_channels": 3}
        width = {"channel_base": setting.channel_base, "num_fp16_res": setting.fp16_resolutions, "conv_clamp": 256}
        generator = networks.Generator(
            z_dim=512,
            w_dim=512,
            mapping_kwargs={"num_layers": 8},
            fused_modconv_default="inference_only",
            **size,
            **width,
        )
        discriminator = networks.Discriminator(epilogue_kwargs={"mbstd_group_size": 8}, **size, **width)
        self._players = {"G": generator, "D": discriminator}
        for network in self._players.values():
            network.train().requires_grad_(False).to(device)
        self._average = copy.deepcopy(generator).eval()
        self._loss = losses.StyleGAN2Loss(
            device=device,
            G=generator,
            D=discriminator,
            r1_gamma=1.0,
            style_mixing_prob=0.9,
            pl_weight=2.0,
            pl_no_weight_grad=True,
        )
        self._optimizers = {name: _adam(network, name) for name, network in self._players.items()}
        self._setting, self._device, self._steps = setting, device, 0
        self._real = torch.rand(setting.batch_size, 3, setting.resolution, setting.resolution, device=device) * 2 - 1

    def step(self) -> None:
        """Every phase that is due, then the average."""
        size = self._setting.batch_size
        for name, part, every in PHASES:
            if self._steps % every == 0:
                self._phase(name, f"{name}{part}", gain=every)
        with torch.no_grad():
            share = 0.5 ** (size / HALF_LIFE_IMAGES)
            weights = list(self._players["G"].parameters())
            torch._foreach_lerp_(list(self._average.parameters()), weights, 1 - share)
        self._steps += 1

    def _phase(self, name: str, phase: str, *, gain: int) -> None:
        network, optimizer, size = self._players[name], self._optimizers[name], self._setting.batch_size
        optimizer.zero_grad(set_to_none=True)
        network.requires_grad_(True)
        no_label = torch.zeros(size, 0, device=self._device)
        latents: Tensor = torch.randn(size, 512, device=self._device)
        self._loss.accumulate_gradients(
            phase=phase,
            real_img=self._real,
            real_c=no_label,
            gen_z=latents,
            gen_c=no_label,
            gain=gain,
            cur_nimg=self._steps * size,
        )
        network.requires_grad_(False)
        for parameter in network.parameters():
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
        optimizer.step()


def _adam(network: Any, name: str) -> torch.optim.Adam:
    """Adam, corrected for lazy penalties as their program does."""
    every = max(every for player, _, every in PHASES if player == name)
    share = every / (every + 1)
    return torch.optim.Adam(network.parameters(), lr=0.0025 * share, betas=(0.0, 0.99**share), eps=1e-8)


def _prepare(checkout: Path, *, device: torch.device) -> str:
    """Make the checkout importable and say with which operations it will compute."""
    sys.path.insert(0, str(checkout))
    if importlib.util.find_spec("pkg_resources") is None:  # gone from setuptools; they ask it for versions alone
        shim = types.ModuleType("pkg_resources")
        shim.parse_version = parse  # type: ignore[attr-defined]  # it has what they import
        sys.modules["pkg_resources"] = shim
    modules: list[Any] = [importlib.import_module(f"torch_utils.ops.{name}") for name in OPERATIONS]
    if device.type != "cuda":
        return "reference operations: no GPU"
    try:
        for module in modules:
            module._init()
    except Exception as error:
        for module in modules:
            module._init = lambda: False
        return f"reference operations: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return "their own"
