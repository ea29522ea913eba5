"""Fully connected networks for points and small pictures: the toy problems of many papers.

The defaults follow Unrolled GAN's ring of Gaussians (Metz et al., arXiv:1611.02163, appendix A): two hidden layers of
128 rectified units in the generator, one in the discriminator, orthogonal weights with a gain of 0.8. The authors'
notebook has `activation="tanh"` and `gain=1.4` instead. There is no normalisation.

Options make the networks of other papers:

* the original GAN (arXiv:1406.2661, section 5): a discriminator with `maxout_pieces`, `dropout` and `input_dropout`;
* the conditional GAN (arXiv:1411.1784): `condition="concatenation"` in both players;
* f-GAN's generator (arXiv:1606.00709, section 4): `width=1200, batch_norm=True`;
* AC-GAN (arXiv:1610.09585) and InfoGAN (arXiv:1606.03657) on points: `class_head=True`, `codes`;
* minibatch discrimination (arXiv:1606.03498, section 3.2): `kernels`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from framework.networks.blocks.activation import Activation, bias_act
from framework.networks.blocks.dropout import Dropout, dropout_seeds
from framework.networks.blocks.heads import DiscriminatorOutput, Heads, check_heads
from framework.networks.blocks.minibatch_discrimination import Closeness, MinibatchDiscrimination
from framework.networks.blocks.norm import BatchNorm1d
from framework.networks.draw import Draw
from framework.networks.labels import Condition, conditioned_on, with_labels
from framework.networks.sizes import check_choice, check_sizes
from framework.recipe.checks import ADDED_LATER
from framework.utils.errors import FrameworkError

Init = Literal["orthogonal", "default"]
"""Initial weights: orthogonal ones (Saxe et al., arXiv:1312.6120) times a gain, with biases of zero, or torch's own."""


class Generator(nn.Module):
    """A fully connected generator: points (N, dims), or images (N, channels, resolution, resolution) in [-1, 1].

    Args:
        dims: numbers of a point; 0 = images are made.
        resolution: side of the images; 0 = points are made.
        channels: channels of the images.
        classes: number of classes; of no effect without a `condition`.
        z_dim: length of the latent.
        width: units of each hidden layer.
        depth: hidden layers, at least 0.
        activation: of the hidden layers, without a gain. Points are a linear map of the last ones, images their tanh.
        init: `orthogonal` or `default`; see `Init`.
        gain: factor on orthogonal weights.
        condition: `none`, which ignores labels, or `concatenation` of one-hot labels to the latent.
        batch_norm: batch norm before each activation, over the images of all processes.
        dropout: share of the hidden units that is dropped in training.

    Raises:
        FrameworkError: an argument is out of range, or both or neither of `dims` and `resolution` are given.
    """

    def __init__(
        self,
        *,
        dims: int = 0,
        resolution: int = 0,
        channels: int = 3,
        classes: Annotated[int, ADDED_LATER] = 0,
        z_dim: int = 256,
        width: int = 128,
        depth: int = 2,
        activation: Activation = "relu",
        init: Init = "orthogonal",
        gain: float = 0.8,
        condition: Annotated[Condition, ADDED_LATER] = "none",
        batch_norm: Annotated[bool, ADDED_LATER] = False,
        dropout: Annotated[float, ADDED_LATER] = 0.0,
    ) -> None:
        super().__init__()
        self.shape = _shape(dims=dims, resolution=resolution, channels=channels)
        check_sizes(classes=classes, z_dim=z_dim)
        self.z_dim = z_dim
        self.told = conditioned_on(condition, classes=classes)
        self.layers = Layers(
            z_dim + self.told,
            math.prod(self.shape),
            width=width,
            depth=depth,
            activation=activation,
            init=init,
            gain=gain,
            batch_norm=batch_norm,
            dropout=dropout,
        )

    def stochastic(self, draw: Draw) -> dict[str, Any]:
        """Return the seeds of dropout, a keyword argument of `forward`; nothing without dropout."""
        return {"dropout": dropout_seeds(draw)} if self.layers.drops else {}

    def forward(self, z: Tensor, labels: Tensor | None = None, *, dropout: Tensor | None = None) -> Tensor:
        """Return points (N, dims) or images (N, channels, resolution, resolution).

        Args:
            z: latents (N, z_dim).
            labels: (N,) int64 or (N, classes) weights over classes; ignored without a condition.
            dropout: (N,) int64 seeds from `stochastic`; needed in training if there is dropout.

        Raises:
            FrameworkError: labels or seeds are missing.
        """
        made, _ = self.layers(with_labels(z, labels, classes=self.told), dropout)
        samples: Tensor = made.unflatten(1, self.shape)
        return samples if len(self.shape) == 1 else torch.tanh(samples)


class Discriminator(nn.Module):
    """A fully connected discriminator: logits (N,) from points or images; with heads, a `DiscriminatorOutput`.

    Args:
        dims, resolution, channels, classes: as for `Generator`.
        width: units of each hidden layer.
        depth: hidden layers, at least 0.
        activation: of the hidden layers, without a gain.
        init: `orthogonal` or `default`; see `Init`.
        gain: factor on orthogonal weights.
        input_scale: factor on the samples, which brings them to about [-1, 1]: 0.25 for the ring of radius 2.
        condition: `none`, which ignores labels, or `concatenation` of one-hot labels to the flattened samples.
        maxout_pieces: linear maps whose largest is a hidden unit, in place of `activation` (arXiv:1302.4389); 0 = none.
        dropout: share of the hidden units that is dropped in training.
        input_dropout: share of the sample's numbers that is dropped in training.
        kernels: kernels of minibatch discrimination before the last layer; 0 = none.
        kernel_dim: numbers per kernel.
        kernel_form: see `MinibatchDiscrimination`.
        class_head: tell the classes apart, too (AC-GAN).
        codes: numbers of the head of codes, see `blocks.heads.Recognition` (InfoGAN); 0 = none.

    Raises:
        FrameworkError: an argument is out of range, or both or neither of `dims` and `resolution` are given.
    """

    def __init__(
        self,
        *,
        dims: int = 0,
        resolution: int = 0,
        channels: int = 3,
        classes: Annotated[int, ADDED_LATER] = 0,
        width: int = 128,
        depth: int = 1,
        activation: Activation = "relu",
        init: Init = "orthogonal",
        gain: float = 0.8,
        input_scale: float = 1.0,
        condition: Annotated[Condition, ADDED_LATER] = "none",
        maxout_pieces: Annotated[int, ADDED_LATER] = 0,
        dropout: Annotated[float, ADDED_LATER] = 0.0,
        input_dropout: Annotated[float, ADDED_LATER] = 0.0,
        kernels: Annotated[int, ADDED_LATER] = 0,
        kernel_dim: Annotated[int, ADDED_LATER] = 5,
        kernel_form: Annotated[Closeness, ADDED_LATER] = "paper",
        class_head: Annotated[bool, ADDED_LATER] = False,
        codes: Annotated[int, ADDED_LATER] = 0,
    ) -> None:
        super().__init__()
        shape = _shape(dims=dims, resolution=resolution, channels=channels)
        if not (math.isfinite(input_scale) and input_scale > 0):
            raise FrameworkError(f"input_scale={input_scale} must be a positive number")
        check_heads(classes=classes, class_head=class_head, codes=codes)
        self.input_scale = input_scale
        self.told = conditioned_on(condition, classes=classes)
        inputs = math.prod(shape) + self.told
        compared = None
        if kernels:
            compared = MinibatchDiscrimination(
                width if depth else inputs, num_kernels=kernels, kernel_dim=kernel_dim, form=kernel_form
            )
        self.layers = Layers(
            inputs,
            1,
            width=width,
            depth=depth,
            activation=activation,
            init=init,
            gain=gain,
            maxout_pieces=maxout_pieces,
            dropout=dropout,
            input_dropout=input_dropout,
            compared=compared,
        )
        heads = Heads(self.layers.features, classes=classes if class_head else 0, codes=codes)
        self.heads = heads if heads.any else None

    def stochastic(self, draw: Draw) -> dict[str, Any]:
        """Return the seeds of dropout, a keyword argument of `forward`; nothing without dropout."""
        return {"dropout": dropout_seeds(draw)} if self.layers.drops else {}

    def forward(
        self, samples: Tensor, labels: Tensor | None = None, *, dropout: Tensor | None = None
    ) -> Tensor | DiscriminatorOutput:
        """Return logits (N,), larger for real samples; with heads, an output that holds them.

        Args:
            samples: points (N, dims) or images (N, channels, resolution, resolution).
            labels: (N,) int64 or (N, classes) weights over classes; ignored without a condition.
            dropout: (N,) int64 seeds from `stochastic`; needed in training if there is dropout.

        Raises:
            FrameworkError: labels or seeds are missing.
        """
        x = with_labels(samples.flatten(1) * self.input_scale, labels, classes=self.told)
        logits, features = self.layers(x, dropout)
        return logits.squeeze(1) if self.heads is None else self.heads(features, logits.squeeze(1))


class Layers(nn.Module):
    """Linear layers with an activation between them: (N, in_features) to (N, out_features).

    Args:
        in_features: length of the input.
        out_features: length of the output.
        width, depth, activation, init, gain, batch_norm, dropout: as for `Generator`.
        maxout_pieces, input_dropout: as for `Discriminator`.
        compared: minibatch discrimination of the last hidden units; None = none.

    Raises:
        FrameworkError: an argument is out of range; the message names it and its valid values.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        width: int,
        depth: int,
        activation: Activation,
        init: Init,
        gain: float,
        batch_norm: bool = False,
        maxout_pieces: int = 0,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        compared: MinibatchDiscrimination | None = None,
    ) -> None:
        super().__init__()
        _check(width=width, depth=depth, activation=activation, init=init, gain=gain, maxout_pieces=maxout_pieces)
        self.activation: Activation = activation
        self.maxout_pieces = maxout_pieces
        hidden = width * (maxout_pieces or 1)
        self.hidden = nn.ModuleList(nn.Linear(width if layer else in_features, hidden) for layer in range(depth))
        self.norms = nn.ModuleList(BatchNorm1d(width) for _ in range(depth if batch_norm else 0))
        self.drops = nn.ModuleList()
        if dropout or input_dropout:
            shares = (input_dropout, *[dropout] * depth)
            self.drops.extend(Dropout(share, layer=layer) for layer, share in enumerate(shares))
        self.compared = compared
        last = width if depth else in_features
        self.features = last if compared is None else compared.out_features
        """The number of the features of which the output is a linear map."""
        self.output = nn.Linear(self.features, out_features)
        if init == "orthogonal":
            for layer in (*self.hidden, self.output):
                nn.init.orthogonal_(layer.weight, gain=gain)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, dropout: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map (N, in_features) to (N, out_features), and to the features (N, F) that the last layer sees.

        Args:
            x: (N, in_features).
            dropout: seeds (N,) int64.
        """
        x = self.drops[0](x, dropout) if self.drops else x
        for index, layer in enumerate(self.hidden):
            x = layer(x)
            if self.maxout_pieces:
                x = x.unflatten(1, (-1, self.maxout_pieces)).amax(2)
            if self.norms:
                x = self.norms[index](x)
            if not self.maxout_pieces:
                x = bias_act(x, activation=self.activation, gain=1.0)
            x = self.drops[index + 1](x, dropout) if self.drops else x
        features = x if self.compared is None else self.compared(x)
        return self.output(features), features


def _check(*, width: int, depth: int, activation: Activation, init: Init, gain: float, maxout_pieces: int) -> None:
    """Refuse an argument out of range; the message names it and its valid values."""
    check_sizes(classes=0, width=width)
    check_choice("activation", activation, Activation)
    check_choice("init", init, Init)
    if depth < 0:
        raise FrameworkError(f"depth={depth} must be at least 0")
    if not (math.isfinite(gain) and gain > 0):
        raise FrameworkError(f"gain={gain} must be a positive number")
    if maxout_pieces < 0 or maxout_pieces == 1:
        raise FrameworkError(f"maxout_pieces={maxout_pieces} must be 0 or at least 2")


def _shape(*, dims: int, resolution: int, channels: int) -> tuple[int, ...]:
    """Return the shape of a sample, (dims,) or (channels, resolution, resolution)."""
    if min(dims, resolution) < 0 or (dims > 0) == (resolution > 0):
        raise FrameworkError(f"dims={dims} and resolution={resolution}: one of them must be at least 1, the other 0")
    check_sizes(classes=0, channels=channels)
    return (dims,) if dims else (channels, resolution, resolution)
