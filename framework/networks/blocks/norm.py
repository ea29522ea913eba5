"""Batch normalisation over the global batch, and its class-conditional form.

Statistics come from the images of all processes by two small differentiable sums (mean, then squared deviations about
it: no cancellation, unequal batches allowed, second derivatives exact), so 1, 2 and 4 processes compute the same
result. `statistics="local"` uses each process's own images. `torch.nn.SyncBatchNorm` has no CPU path and no second
derivative. Sources: Ioffe & Szegedy, arXiv:1502.03167; conditional: Dumoulin et al., arXiv:1610.07629; standing
statistics: Brock et al., arXiv:1809.11096; each image's own statistics at inference: Isola et al., arXiv:1611.07004.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.spectral import spectral_norm
from framework.networks.sizes import check_choice
from framework.runtime.collectives import num_processes, sum_over_processes
from framework.utils.errors import FrameworkError

Statistics = Literal["global", "local"]
"""The images that batch norm averages over in training: those of all processes, or of this one."""

InferenceStatistics = Literal["running", "image"]
"""The statistics that batch norm normalises by in evaluation mode: the running ones, or those of each image alone."""


class BatchNorm2d(nn.Module):
    """Batch normalisation of (N, C, H, W).

    In training, `y = (x - mean) / sqrt(var + eps) * weight + bias` with the batch's biased variance; `running_mean` and
    `running_var` (unbiased, as in torch) follow with `momentum` and are used in evaluation, or each image's own are.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics.
        affine: learn `weight` and `bias`, both (C,).
        statistics: `global` = over all processes, a collective in training; `local` = over this process's images (for
            their running statistics see `share_statistics`).
        inference_statistics: what evaluation mode normalises by: `running`, or `image` = each image's own mean and
            variance over its pixels, as for a batch of that image alone (pix2pix, arXiv:1611.07004, section 3.3), so
            that nothing depends on the rest of the batch. Feature maps then need more than one pixel.

    Raises:
        FrameworkError: `statistics` or `inference_statistics` is unknown.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        statistics: Statistics = "global",
        inference_statistics: InferenceStatistics = "running",
    ) -> None:
        super().__init__()
        check_choice("inference_statistics", inference_statistics, InferenceStatistics)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.statistics: Statistics = _known(statistics)
        self.inference_statistics: InferenceStatistics = inference_statistics
        self.register_parameter("weight", nn.Parameter(torch.ones(num_features)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_features)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self._standing_batches: int | None = None  # batches accumulated so far, inside `standing_statistics`

    def extra_repr(self) -> str:
        """Return the options for `print`."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, statistics={self.statistics!r}"

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Normalise (N, C, H, W), same shape; `labels` are ignored, so that blocks can call either norm."""
        if self._standing_batches is None:
            if not self.training:
                if self.inference_statistics == "image":
                    return functional.instance_norm(images, weight=self.weight, bias=self.bias, eps=self.eps)
                return self._fused(images, training=False)
            if self.statistics == "local" or num_processes() == 1:
                return self._fused(images, training=True)
        return self._over_processes(images)

    def _fused(self, images: Tensor, *, training: bool) -> Tensor:
        """Normalise with torch's kernel, which has a second derivative."""
        return functional.batch_norm(
            images, self.running_mean, self.running_var, self.weight, self.bias, training, self.momentum, self.eps
        )

    def _over_processes(self, images: Tensor) -> Tensor:
        """Normalise by the batch's statistics, summed over processes if they are `global`, in fp32 at least."""
        x = images.to(torch.promote_types(images.dtype, torch.float32))
        # Means. Samples are counted, not pixels: their number stays an exact float32 integer for any batch.
        num_samples = x.new_full((1,), x.shape[0])
        sums = self._sum(torch.cat([x.sum((0, 2, 3)), num_samples]))
        count = sums[-1].detach() * (x.shape[2] * x.shape[3])
        mean = sums[:-1] / count
        # Biased variances, from deviations about the mean.
        deviation = x - mean[:, None, None]
        var = self._sum(deviation.square().sum((0, 2, 3))) / count
        self._track(mean, var, count)
        # One multiplication and one addition per pixel.
        scale = (var + self.eps).rsqrt()
        if self.weight is None or self.bias is None:
            return (deviation * scale[:, None, None]).to(images.dtype)
        scale = scale * self.weight
        return torch.addcmul(self.bias[:, None, None], deviation, scale[:, None, None]).to(images.dtype)

    def _sum(self, tensor: Tensor) -> Tensor:
        return sum_over_processes(tensor) if self.statistics == "global" else tensor

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Move the running statistics towards a batch's mean and biased variance, both (C,)."""
        if self._standing_batches is None:
            share = self.momentum
            var = var * (count / (count - 1).clamp(min=1))
        else:
            self._standing_batches += 1
            share = 1 / self._standing_batches
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(var.to(self.running_var.dtype), share)


class BatchNorm1d(BatchNorm2d):
    """Batch normalisation of vectors (N, C), with the arguments of `BatchNorm2d`."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Normalise vectors (N, C), same shape; `labels` are ignored."""
        return super().forward(images[:, :, None, None], labels)[:, :, 0, 0]


class LabelMap(nn.Linear):
    """A linear map from one-hot labels to (N, `out_features`), without bias; weight (out_features, num_classes).

    Labels are class indices (N,) int64, which select columns of the weight, or weights over classes (N, num_classes),
    or any other vectors of that length.
    """

    def __init__(self, num_classes: int, out_features: int) -> None:
        super().__init__(num_classes, out_features, bias=False)

    def forward(self, labels: Tensor) -> Tensor:
        """Map labels, (N,) int64 or (N, num_classes) weights or vectors, to (N, out_features)."""
        if labels.dim() == 1:
            return functional.embedding(labels, self.weight.t())
        return functional.linear(labels, self.weight)


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose gain and bias depend on the class: `y = (1 + gain(label)) * norm(x) + bias(label)`.

    Args:
        num_features: C.
        num_classes: number of classes, or length of the vector that takes the labels' place (BigGAN: a shared
            embedding and a part of the latent).
        spectral: spectral norm on the two (C, num_classes) maps.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics.
        statistics: as for `BatchNorm2d`.

    Raises:
        FrameworkError: `statistics` is unknown.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        spectral: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
        statistics: Statistics = "global",
    ) -> None:
        super().__init__()
        self.norm = BatchNorm2d(num_features, eps=eps, momentum=momentum, affine=False, statistics=statistics)
        self.gain = LabelMap(num_classes, num_features)
        self.bias = LabelMap(num_classes, num_features)
        if spectral:
            spectral_norm(self.gain)
            spectral_norm(self.bias)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Normalise (N, C, H, W) for labels (N,) int64 or for weights or vectors (N, num_classes); same shape."""
        gain, bias = 1 + self.gain(labels), self.bias(labels)
        return torch.addcmul(bias[:, :, None, None], self.norm(images), gain[:, :, None, None])


def batch_norms(
    condition: int,
    *,
    spectral: bool = False,
    eps: float = 1e-5,
    momentum: float = 0.1,
    statistics: Statistics = "global",
) -> Callable[[int], nn.Module]:
    """Return a constructor of batch norms for a number of channels: conditional ones, or plain if `condition` is 0.

    Args:
        condition: number of classes, or length of the vector that takes the labels' place.
        spectral: spectral norm on the maps of conditional ones.
        eps, momentum, statistics: as for `BatchNorm2d`.
    """
    if not condition:
        return partial(BatchNorm2d, eps=eps, momentum=momentum, statistics=statistics)
    return partial(
        ConditionalBatchNorm2d,
        num_classes=condition,
        spectral=spectral,
        eps=eps,
        momentum=momentum,
        statistics=statistics,
    )


@torch.no_grad()
def share_statistics(network: nn.Module) -> None:
    """Replace the running statistics of `local` batch norms by their mean over processes.

    Those of each process follow its own images; without this call the copies of the network would diverge. The game
    calls it once per step, before the weights are averaged. It is one collective, or none if there is nothing to do.
    """
    layers = [m for m in network.modules() if isinstance(m, BatchNorm2d) and m.statistics == "local"]
    if not layers or num_processes() == 1:
        return
    buffers = [buffer for layer in layers for buffer in (layer.running_mean, layer.running_var)]
    means = sum_over_processes(torch.cat(buffers)) / num_processes()
    for buffer, mean in zip(buffers, means.split([len(b) for b in buffers]), strict=True):
        buffer.copy_(mean)


@contextmanager
def standing_statistics(network: nn.Module, *, statistics: Statistics | None = None) -> Iterator[None]:
    """Replace the running statistics by plain averages over the batches run inside this context.

    Inside, batch norms normalise by their batch (in evaluation mode too) and average its mean and biased variance with
    equal weights; afterwards the running statistics hold those averages. Without a forward inside, nothing changes.
    The context is meant for a copy of the generator made for sampling.

    Args:
        network: the copy.
        statistics: `local` needs no communication, so one process may sample alone; None keeps what each layer was
            built with.

    Raises:
        FrameworkError: `statistics` is unknown.
    """
    layers = [module for module in network.modules() if isinstance(module, BatchNorm2d)]
    built = [layer.statistics for layer in layers]
    if statistics is not None:
        _known(statistics)
    for layer in layers:
        layer._standing_batches = 0
        layer.statistics = statistics or layer.statistics
    try:
        yield
    finally:
        for layer, before in zip(layers, built, strict=True):
            layer._standing_batches = None
            layer.statistics = before


@contextmanager
def untracked_statistics(network: nn.Module) -> Iterator[None]:
    """Leave running statistics as they are while batch norms run in training inside this context.

    It serves a forward pass that another one repeats, so that they follow the batch once.
    """
    layers = [module for module in network.modules() if isinstance(module, BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _known(statistics: Statistics) -> Statistics:
    """Return `statistics`, or raise a FrameworkError if it is unknown."""
    if statistics not in get_args(Statistics):
        raise FrameworkError(f"statistics={statistics!r} must be one of: {', '.join(get_args(Statistics))}")
    return statistics
