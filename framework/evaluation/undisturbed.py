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
    """Restore random numbers, modes and buffers (batch-norm statistics) after the block, which computes no gradients.

    Our own draws come from keys and not from these random number generators; but a library or a layer might use them,
    and then a run with evaluations would differ from the run without.
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
