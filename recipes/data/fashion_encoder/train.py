"""Train the encoder that `recipes/stacked_gan_fashion.py` inverts, and write its weights.

    python recipes/data/fashion_encoder/train.py recipes/data/fashion_mnist encoder.safetensors

It is a classifier of the vendored images alone, of which the last 175 in the data's order are held out; the accuracy on
them is printed, and stored in the file. Same data, same torch and one thread give the same weights bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from framework.data.stream import open_stream
from framework.networks.stacked import Encoder
from framework.runtime.seeding import seed_torch

SIDE, CLASSES, HELD_OUT, BATCH = 32, 10, 175, 50
SHIFT = 2
"""The most pixels by which a picture is moved in each direction; its border of as many is black."""


def train(
    data: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    *,
    epochs: int = 40,
    seed: int = 0,
) -> None:
    """Train and write.

    Args:
        data: Folder of packed Fashion-MNIST, 32x32 grey.
        out: Safetensors file to write.
        epochs: Passes over the training part.
        seed: Of the first weights, the order of batches, and of what is done to pictures.
    """
    torch.set_num_threads(1)
    images, labels = read(data)
    seen = len(images) - HELD_OUT
    seed_torch(seed, "fashion_encoder")
    network = Encoder(resolution=SIDE, channels=1, classes=CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    steps = epochs * (seen // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for epoch in range(epochs):
        for batch in torch.randperm(seen)[: seen // BATCH * BATCH].split(BATCH):
            logits = network(moved(images[batch]))
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if (epoch + 1) % 10 == 0 or epoch + 1 == epochs:
            accuracy = share_of_right(network, images[seen:], labels[seen:])
            print(
                f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}, held-out accuracy {accuracy:.3f}", flush=True
            )
    about = f"recipes/data/fashion_encoder/train.py, {seen} images, seed {seed}, held-out accuracy {accuracy:.3f}"
    weights = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, out, metadata={"about": about})  # one entry: several are written in any order
    print(f"{out}: {out.stat().st_size:,} bytes")


def read(data: Path) -> tuple[Tensor, Tensor]:
    """Return all images (N, 1, 32, 32) in [-1, 1] and labels (N,), in the order of the stream."""
    stream = open_stream(data, resolution=SIDE, channels=1, classes=CLASSES, workers=1, worker_kind="thread")
    with stream.batches(0, batch_size=HELD_OUT, stop=stream.count) as batches:
        parts = [(batch.images, batch.labels) for batch in batches]
    return torch.cat([p[0] for p in parts]).float() / 127.5 - 1, torch.cat([p[1] for p in parts])


def moved(images: Tensor) -> Tensor:
    """Return images (N, 1, 32, 32) mirrored half of the time and moved by up to `SHIFT` pixels, all alike."""
    if torch.rand(()) < 0.5:
        images = images.flip(3)
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
    return images.roll((down, right), (2, 3))


@torch.no_grad()
def share_of_right(network: Encoder, images: Tensor, labels: Tensor) -> float:
    """Return the share of images that are classified rightly."""
    return float((network(images).argmax(1) == labels).double().mean())


if __name__ == "__main__":
    tyro.cli(train)
