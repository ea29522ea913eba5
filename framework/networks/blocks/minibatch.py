"""Minibatch standard deviation (ProGAN, arXiv:1710.10196, section 3): a feature that shows how varied a group is.

Groups are formed in the global micro-batch, so they do not depend on how many processes share it: in training, the
feature maps are first gathered from all processes by a differentiable sum. They are small where this layer is used
(4 x 4 pixels).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from framework.runtime.collectives import gathered_over_processes
from framework.utils.errors import FrameworkError

Grouping = Literal["strided", "contiguous"]
"""How images are assigned to groups; see `MinibatchStddev`."""


class MinibatchStddev(nn.Module):
    """A layer that appends the standard deviation over a group of images, averaged over pixels and channels.

    Args:
        group_size: images per group. Where it does not divide the batch: the batch's largest divisor below it, so that
            all groups are equal, or with `contiguous` the whole batch.
        num_features: channel groups averaged separately, each of which gives one appended channel.
        grouping: `strided`: image i is in group i modulo the number of groups (ProGAN's and StyleGAN's programs);
            `contiguous`: consecutive images (pytorch_GAN_zoo).
        unbiased: divide by the group's size less one.
        eps: added to the variance.

    Raises:
        FrameworkError: `grouping` is unknown, or `group_size` or `num_features` is below 1.
    """

    def __init__(
        self,
        *,
        group_size: int = 4,
        num_features: int = 1,
        grouping: Grouping = "strided",
        unbiased: bool = False,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        if grouping not in get_args(Grouping):
            raise FrameworkError(f"grouping={grouping!r} must be one of: {', '.join(get_args(Grouping))}")
        for name, value in {"group_size": group_size, "num_features": num_features}.items():
            if value < 1:
                raise FrameworkError(f"{name}={value} must be at least 1")
        self.group_size, self.num_features, self.grouping = group_size, num_features, grouping
        self.unbiased, self.eps = unbiased, eps

    def forward(self, x: Tensor) -> Tensor:
        """Append the features to (N, C, H, W), giving (N, C + num_features, H, W); a collective in training."""
        everyone, mine = gathered_over_processes(x) if self.training else (x, slice(None))
        features = self._features(everyone.to(torch.promote_types(x.dtype, torch.float32)))[mine]
        return torch.cat([x, features.to(x.dtype).expand(-1, -1, *x.shape[2:])], dim=1)

    def _features(self, x: Tensor) -> Tensor:
        """Return the features (M, num_features, 1, 1) of a whole micro-batch (M, C, H, W)."""
        # The size of the groups.
        strided, count = self.grouping == "strided", len(x)
        size = next(g for g in range(min(self.group_size, count), 0, -1) if count % g == 0)
        if not strided and count % min(self.group_size, count):
            size = count
        if size == 1:  # a single image has no deviation: a constant (0 in pytorch_GAN_zoo)
            return x.new_full((count, self.num_features, 1, 1), 0.0 if self.unbiased else self.eps**0.5)
        # The deviation over the group, averaged over everything else, for each image of the group.
        shape = (size, -1) if strided else (-1, size)
        grouped = x.unflatten(0, shape).unflatten(2, (self.num_features, -1))
        members = 0 if strided else 1
        variance = grouped.var(members, correction=1 if self.unbiased else 0)
        feature = (variance + self.eps).sqrt().mean((2, 3, 4))[..., None, None]
        return feature.repeat(size, 1, 1, 1) if strided else feature.repeat_interleave(size, 0)
