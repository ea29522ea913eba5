"""An evaluation in the middle of training leaves no trace in what training computes afterwards."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def undisturbed(*networks: nn.Module) -> Iterator[None]:
    """No gradients; afterwards random numbers, modes and buffers (batch-norm statistics) are what they were.

    The generators' own draws come from keys and not from these generators; but a library's or a layer's might, and then
    the run with evaluation would part from the run without it.
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    python, old_numpy = random.getstate(), np.random.get_state()
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=cuda), torch.no_grad():
            for network in networks:
                network.eval()
            yield
    finally:
        random.setstate(python)
        np.random.set_state(old_numpy)
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
