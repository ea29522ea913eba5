"""What is seen of a forward, by layer, and what is not held against it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.networks.blocks.moving import MovingMean
from framework.networks.blocks.norm import BatchNorm2d, standing_statistics
from framework.networks.blocks.spectral import spectral_norm
from framework.networks.observe import Observed, observed


class Habits(nn.Module):
    """One of each."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout2d(0.5))
        self.sharp = nn.utils.spectral_norm(nn.Conv2d(3, 3, 1))
        self.track = nn.InstanceNorm2d(3, track_running_stats=True)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return functional.dropout(self.track(self.sharp(self.body(x))), 0.1)


class Clean(nn.Module):
    """Blocks that a game knows: their buffers move under its eyes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv, self.mean = BatchNorm2d(3), spectral_norm(nn.Conv2d(3, 3, 1)), MovingMean((), keep=0.5)
        self.group = nn.Sequential(nn.InstanceNorm2d(3), nn.GroupNorm(1, 3), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.note(x.mean((1, 2, 3)))
        return self.group(self.conv(self.norm(x)))


def test_everything_is_seen_and_named_by_its_layer_on_meta_tensors_and_on_others() -> None:
    for device in ("meta", "cpu"):
        network = Habits().to(device)
        with observed(network) as seen:
            network(torch.ones(4, 3, 2, 2, device=device))
        assert seen == Observed(
            draws={"body.2": "torch.nn.Dropout2d", "": "torch's bernoulli_"},
            batch_norms={"body.1": "torch.nn.BatchNorm2d"},
            power_iterations={"sharp": "spectral norm of torch.nn.utils"},
            changed={"count": "", "track.running_mean": "track", "track.running_var": "track"},
        )
        assert not any(layer._forward_hooks for layer in network.modules()), "nothing stays behind"


def test_in_evaluation_only_what_still_happens_is_seen() -> None:
    network = Habits().eval()
    with observed(network) as seen:
        network(torch.ones(4, 3, 2, 2))
    assert seen == Observed(draws={"": "torch's bernoulli_"}, changed={"count": ""})


def test_the_blocks_of_the_framework_are_clean_also_where_they_move_their_statistics() -> None:
    network, images = Clean(), torch.randn(4, 3, 2, 2)
    with observed(network) as seen:
        network(images)
    with standing_statistics(network), observed(network) as standing:  # in place, unlike torch's kernel
        network(images)
    assert seen == standing == Observed()
