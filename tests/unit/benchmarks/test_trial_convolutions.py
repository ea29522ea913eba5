"""The trial's autograd nodes against torch's own, three derivatives deep, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu import trial_convolutions
from framework.networks.blocks import resample

# Sums of at most 10^4 products of numbers near 1 in float64, relative.
BOUND = 1e-11


def derivatives(apply: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The value and three derivatives in every input, each of a nonlinear function of the one before."""
    inputs = tuple(tensor.detach().requires_grad_(True) for tensor in inputs)
    values: Sequence[Tensor] = [apply(*inputs)]
    found = [*values]
    for _ in range(3):
        total = sum(value.sin().sum() for value in values)
        assert isinstance(total, Tensor)
        values = torch.autograd.grad(total, inputs, create_graph=True)
        found += values
    return found


def check(apply: Callable[..., Tensor], *inputs: Tensor) -> None:
    expected = derivatives(apply, *inputs)
    with trial_convolutions.patched(grouped=True):
        found = derivatives(apply, *inputs)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert float((a - b).detach().norm()) < BOUND * float(b.detach().norm())


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2)])
@pytest.mark.parametrize("separable", [False, True])
def test_constant_filters(up: int, down: int, separable: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    filter = resample.setup_filter([1.0, 3.0, 2.0, 5.0], separable=separable).double()
    images = torch.randn(2, 3, 9, 8, generator=generator, dtype=torch.float64)
    check(lambda x: resample.upfirdn2d(x, filter, up=up, down=down, padding=(2, 1, 3, -1)), images)


@pytest.mark.parametrize("padding", [0, 1])
def test_grouped_convolutions(padding: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 6, 6, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(9, 2, 3, 3, generator=generator, dtype=torch.float64)
    check(lambda x, w: functional.conv2d(x, w, padding=padding, groups=3), images, weight)


def test_the_nodes_are_in_place_and_leave() -> None:
    filter = resample.setup_filter([1.0, 3.0, 3.0, 1.0])
    images = torch.ones(1, 2, 8, 8, requires_grad=True)

    def names() -> set[str]:
        value = resample.downsample2d(images, filter)
        grouped = functional.conv2d(images, torch.ones(2, 1, 1, 1), groups=2)
        found, waiting = set(), [value.grad_fn, grouped.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is not None:
                found.add(node.name())
                waiting += [before for before, _ in node.next_functions]
        return found

    nodes = {"ConstantFilterBackward", "GroupedConvolutionBackward"}
    with trial_convolutions.patched(grouped=True):
        assert nodes <= names()
    assert not nodes & names()


def test_a_second_derivative_has_no_loop_over_channels() -> None:
    """What the trial is for: convolutions counted, in R1's double backward through one filter."""
    filter = resample.setup_filter([1.0, 3.0, 3.0, 1.0])

    def convolutions() -> int:
        images = torch.ones(1, 32, 8, 8, requires_grad=True)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            value = resample.downsample2d(images * images, filter).square().sum()
            (first,) = torch.autograd.grad(value, images, create_graph=True)
            first.square().sum().backward()
        return sum(event.count for event in profile.key_averages() if event.key == "aten::_convolution")

    plain = convolutions()
    with trial_convolutions.patched():
        assert convolutions() < 8
    assert plain > 32
