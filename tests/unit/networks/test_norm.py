import pytest
import torch
from torch import nn

from framework.networks.blocks.norm import BatchNorm2d, ConditionalBatchNorm2d, LabelMap, standing_statistics
from framework.utils.errors import FrameworkError


def over_processes(layer: BatchNorm2d) -> BatchNorm2d:
    """The path for several processes, taken by one: its sums are then the identity."""
    layer._fused = None  # the kernel must not be used
    layer.forward = lambda images, labels=None: layer._over_processes(images)
    return layer


@pytest.mark.parametrize("path", ["kernel", "processes"])
@pytest.mark.parametrize("affine", [True, False])
def test_equals_torch(path: str, affine: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64) * 3 + 100  # large mean: no cancellation may show
    theirs = nn.BatchNorm2d(3, eps=1e-4, momentum=0.3, affine=affine).double()
    ours = BatchNorm2d(3, eps=1e-4, momentum=0.3, affine=affine).double()
    if affine:
        for layer in (ours, theirs):
            with torch.no_grad():
                layer.weight.copy_(torch.tensor([0.5, -1.0, 2.0]))
                layer.bias.copy_(torch.tensor([1.0, 0.0, -3.0]))
    if path == "processes":
        over_processes(ours)
    results = []
    for layer in (ours, theirs):
        images = x.clone().requires_grad_(True)
        y = layer(images)
        (gradient,) = torch.autograd.grad((y**3).sum(), images, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), images)
        results.append((y, gradient, second, layer.running_mean, layer.running_var))
    for mine, reference in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("path", ["kernel", "processes"])
def test_second_derivatives_by_finite_differences(path: str) -> None:
    torch.manual_seed(0)
    layer = BatchNorm2d(2).double()
    if path == "processes":
        over_processes(layer)
    x = torch.randn(2, 2, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


def test_evaluation_uses_and_keeps_running_statistics() -> None:
    layer = BatchNorm2d(3).eval()
    layer.running_mean += 2
    layer.running_var *= 4
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(layer(x), (x - 2) / (4 + 1e-5) ** 0.5)
    assert layer.running_mean.unique().item() == 2


def test_half_precision_images_have_full_precision_statistics() -> None:
    layer = over_processes(BatchNorm2d(3))
    x = (torch.randn(64, 3, 8, 8) + 10).to(torch.bfloat16)
    y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(layer.running_mean, 0.1 * x.float().mean((0, 2, 3)), rtol=1e-5, atol=0)


def test_one_large_batch_of_a_constant_stays_finite() -> None:
    x = torch.full((1, 2, 1, 1), 5.0, requires_grad=True)
    layer = over_processes(BatchNorm2d(2))
    layer(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(layer.running_var).all()


def test_unknown_statistics_are_named() -> None:
    with pytest.raises(FrameworkError, match="statistics='rank' must be one of: global, local"):
        BatchNorm2d(3, statistics="rank")
    with (
        pytest.raises(FrameworkError, match="statistics='rank' must be one of"),
        standing_statistics(BatchNorm2d(3), statistics="rank"),
    ):
        pass


@pytest.mark.parametrize("spectral", [True, False])
def test_class_indices_and_one_hot_labels_agree(spectral: bool) -> None:
    torch.manual_seed(0)
    layer = ConditionalBatchNorm2d(4, 5, spectral=spectral).double()
    nn.init.normal_(layer.gain.parametrizations.weight.original if spectral else layer.gain.weight)
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    labels = torch.tensor([4, 0, 4])
    one_hot = torch.nn.functional.one_hot(labels, 5).double()
    by_index, by_weight = layer(x, labels), layer(x, one_hot)
    torch.testing.assert_close(by_index, by_weight, rtol=1e-12, atol=1e-12)
    parameters = list(layer.parameters())
    for first, second in zip(
        torch.autograd.grad(by_index.square().sum(), parameters),
        torch.autograd.grad(by_weight.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


def test_mixed_labels_mix_the_maps() -> None:
    layer = LabelMap(3, 4)
    mixed = layer(torch.tensor([[0.25, 0.0, 0.75]]))
    torch.testing.assert_close(mixed[0], 0.25 * layer.weight[:, 0] + 0.75 * layer.weight[:, 2])


def test_standing_statistics_average_batches() -> None:
    torch.manual_seed(0)
    layer = ConditionalBatchNorm2d(2, 3).double().eval()
    layer.norm.running_mean += 7  # what was there before must not leak in
    batches = [torch.randn(4, 2, 3, 3, dtype=torch.float64) + i for i in range(3)]
    labels = torch.tensor([0, 1, 2, 0])
    with standing_statistics(layer):
        inside = [layer(batch, labels) for batch in batches]
    mean = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    var = torch.stack([b.var((0, 2, 3), correction=0) for b in batches]).mean(0)
    torch.testing.assert_close(layer.norm.running_mean, mean)
    torch.testing.assert_close(layer.norm.running_var, var)
    torch.testing.assert_close(inside[1], layer.train()(batches[1], labels))  # batch statistics inside
    again = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    before = layer.norm.running_mean.clone()
    layer.train()(again, labels)  # ordinary training tracking is back
    torch.testing.assert_close(layer.norm.running_mean, 0.9 * before + 0.1 * again.mean((0, 2, 3)))


def test_standing_statistics_without_a_forward_change_nothing() -> None:
    layer = BatchNorm2d(2)
    with standing_statistics(layer, statistics="local"):
        assert layer.statistics == "local"
    assert layer.statistics == "global"
    assert not layer.running_mean.any()
    assert torch.equal(layer.running_var, torch.ones(2))
