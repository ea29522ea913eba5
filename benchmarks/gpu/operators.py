"""Every operator of the networks with its first and second derivative, against float64 on the CPU."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.gpu.job import Job, allow_tf32
from framework.augment import blur, gridsample
from framework.networks.blocks import activation, alias_free, attention, minibatch, modulated, noise, norm, resample
from framework.runtime.seeding import Draws, seed_torch

Operator = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A precision of inputs and products, and the largest relative error (L2) of a value or first derivative in it."""

    name: str
    dtype: torch.dtype
    tf32: bool = False
    bound: float
    second_bound: float
    """The same of a second derivative, which adds up more rounded products."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """An operator of an input (`shape`) and a weight, in which both it is differentiated."""

    apply: Operator
    shape: tuple[int, ...]
    weight_shape: tuple[int, ...] = (1,)
    """(1,): the operator ignores it."""


MODES = (
    Mode(name="fp32", dtype=torch.float32, bound=1e-5, second_bound=1e-4),
    Mode(name="tf32", dtype=torch.float32, tf32=True, bound=5e-3, second_bound=5e-2),
    Mode(name="bf16", dtype=torch.bfloat16, bound=8e-2, second_bound=0.3),
    Mode(name="fp16", dtype=torch.float16, bound=2e-2, second_bound=0.1),
)
REHEARSED = ("upsample2d", "modulated_conv2d", "batch norm")


def operators(job: Job) -> None:
    """One finding per operator and mode: relative errors of the value, the first and the second derivatives."""
    chosen = {name: case for name, case in cases().items() if not job.rehearsal or name in REHEARSED}
    for name, case in chosen.items():
        draws = Draws(seed=7, images_seen=0)
        x, weight = draws.normal(f"{name}/x", *case.shape), draws.normal(f"{name}/w", *case.weight_shape)
        exact = derivatives(case.apply, x.double(), weight.double())
        for mode in MODES:
            if job.late(operator=name, mode=mode.name):
                return
            with job.part(operator=name, mode=mode.name):
                allow_tf32(mode.tf32)
                inputs = (x.to(job.device, mode.dtype), weight.to(job.device, mode.dtype))
                errors = [relative_error(a, b) for a, b in zip(derivatives(case.apply, *inputs), exact, strict=True)]
                ok = max(errors[:2]) < mode.bound and max(errors[2:]) < mode.second_bound
                job.findings.add(operator=name, mode=mode.name, errors=errors, ok=ok)
    allow_tf32(False)
    seeds = torch.arange(4) * 12_345_678_901
    with job.part(operator="seeded_normal"):
        there, here = (noise.seeded_normal(seeds.to(device), 3, 32, 32).cpu() for device in (job.device, "cpu"))
        difference = float((there - here).abs().max())
        job.findings.add(operator="seeded_normal", largest_difference=difference, ok=difference < 1e-4)


def derivatives(apply: Operator, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The value, the gradient of a sum over it in x, and that gradient's squared length differentiated in x and w.

    A plain sum of squares would be constant behind a normalisation, so the sum is weighted unevenly.
    """
    x, weight = x.detach().requires_grad_(True), weight.detach().requires_grad_(True)
    value = apply(x, weight)
    wide = value.to(torch.promote_types(value.dtype, torch.float32))
    uneven = torch.linspace(-1, 1, wide.numel(), dtype=wide.dtype, device=wide.device).mul(40).sin().view_as(wide)
    (first,) = torch.autograd.grad(((wide + wide.square()) * uneven).sum() / 16, x, create_graph=True)
    squares = first.to(wide.dtype).square().sum() / 16
    second = torch.autograd.grad(squares, (x, weight), allow_unused=True)
    in_x, in_weight = (torch.zeros(1) if gradient is None else gradient for gradient in second)
    return value.detach(), first.detach(), in_x, in_weight


def relative_error(found: Tensor, exact: Tensor) -> float:
    """The length of the difference over that of the exact tensor; infinite where one is not finite."""
    difference = (found.double().cpu() - exact).norm()
    error = float(difference / exact.norm()) if float(exact.norm()) > 0 else float(difference)
    return error if math.isfinite(error) else math.inf


def cases() -> dict[str, Case]:
    """The operators by name."""
    image, kernel = (4, 8, 16, 16), (8, 8, 3, 3)
    taps = resample.setup_filter([1, 3, 3, 1])
    lowpass = alias_free.lowpass_filter(12, cutoff=0.25, half_width=0.1, sampling_rate=2.0)

    def filtered(x: Tensor, w: Tensor) -> Tensor:
        f, padding = lowpass.to(x), (11, 10, 11, 10)
        return alias_free.filtered_leaky_relu(x, w, up_filter=f, down_filter=f, up=2, down=2, padding=padding)

    def sampled(x: Tensor, w: Tensor) -> Tensor:
        line = torch.linspace(-0.9, 0.8, 12, dtype=x.dtype, device=x.device)
        grid = torch.stack(torch.meshgrid(line, line * 0.7, indexing="xy"), -1)
        return gridsample.grid_sample(x, grid.expand(len(x), -1, -1, -1))

    def modulate(x: Tensor, w: Tensor, *, up: int = 1, fused: bool = False) -> Tensor:
        styles, f = x.mean((2, 3)) + 1, taps.to(x) if up > 1 else None
        return modulated.modulated_conv2d(x, w, styles, padding=1, up=up, filter=f, mirrored=up > 1, fused=fused)

    seed_torch("operators")
    attend = attention.SelfAttention2d(16, spectral=False)
    nn.init.ones_(attend.gamma)  # at its start of zero the block is the identity
    return {
        "upsample2d": Case(apply=lambda x, w: resample.upsample2d(x, taps.to(x)), shape=image),
        "downsample2d": Case(apply=lambda x, w: resample.downsample2d(x, taps.to(x)), shape=image),
        "upfirdn2d": Case(apply=lambda x, w: resample.upfirdn2d(x, taps.to(x), up=2, down=2, padding=2), shape=image),
        "modulated_conv2d": Case(apply=modulate, shape=image, weight_shape=kernel),
        "modulated_conv2d, up": Case(apply=lambda x, w: modulate(x, w, up=2), shape=image, weight_shape=kernel),
        "modulated_conv2d, fused": Case(
            apply=lambda x, w: modulate(x, w, fused=True), shape=image, weight_shape=kernel
        ),
        "bias_act": Case(
            apply=lambda x, w: activation.bias_act(x, w, activation="lrelu", clamp=256.0),
            shape=image,
            weight_shape=(8,),
        ),
        "filtered_leaky_relu": Case(apply=filtered, shape=(2, 8, 16, 16), weight_shape=(8,)),
        "minibatch deviation": Case(apply=_module(minibatch.MinibatchStddev()), shape=(8, 8, 4, 4)),
        "batch norm": Case(apply=_module(norm.BatchNorm2d(8)), shape=(8, 8, 8, 8)),
        "conv2d": Case(apply=lambda x, w: functional.conv2d(x, w, padding=1), shape=image, weight_shape=kernel),
        "conv2d, 4 groups": Case(
            apply=lambda x, w: functional.conv2d(x, w, padding=1, groups=4), shape=image, weight_shape=(8, 2, 3, 3)
        ),
        "conv2d, stride 2": Case(
            apply=lambda x, w: functional.conv2d(x, w, stride=2, padding=1), shape=image, weight_shape=kernel
        ),
        "linear": Case(apply=lambda x, w: x @ w, shape=(32, 64), weight_shape=(64, 48)),
        "attention": Case(apply=_module(attend), shape=(2, 16, 8, 8)),
        "grid_sample": Case(apply=sampled, shape=(2, 3, 16, 16)),
        "gaussian_blur": Case(apply=lambda x, w: blur.gaussian_blur(x, sigma=1.5), shape=(2, 3, 32, 32)),
    }


def _module(module: nn.Module) -> Operator:
    """A module as an operator of its input, in the input's precision."""
    return lambda x, w: copy.deepcopy(module).to(x)(x)
