"""Train the light extractor `fashion_classifier` again and write its weights.

    framework pack fashion/usr/share/datasets/fashion-mnist /tmp/fashion_full --pad 32 --encoding webp \
        --name fashion_mnist --license MIT                              # recipes/data/README.md: where the files are
    python -m benchmarks.fashion_classifier /tmp/fashion_full --out fashion_classifier.safetensors

The last 5,000 positions of the data set's order are held out; the accuracy on them is printed and stored in the file.
Same data, same torch and one thread give the same weights bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from safetensors.torch import save_file
from torch import Tensor

from framework.data.stream import open_stream
from framework.evaluation.extractors.fashion import CLASSES, SIDE, FashionClassifier, parameters_of
from framework.runtime.seeding import seed_torch

HELD_OUT = 5_000
BATCH = 250


def train(data: Annotated[Path, tyro.conf.Positional], *, out: Path, epochs: int = 3, seed: int = 0) -> None:
    """Train and write.

    Args:
        data: Folder of packed Fashion-MNIST, 32x32 grey.
        out: Safetensors file to write.
        epochs: Passes over the training part.
        seed: Of the first weights and of the order of batches.
    """
    torch.set_num_threads(1)
    images, labels = read(data)
    seen, held = len(images) - HELD_OUT, slice(len(images) - HELD_OUT, None)
    seed_torch(seed, "fashion_classifier")
    network = FashionClassifier()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = epochs * (seen // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for epoch in range(epochs):
        order = torch.randperm(seen)
        for batch in order[: seen // BATCH * BATCH].split(BATCH):
            pixels = images[batch]
            if torch.rand(()) < 0.5:
                pixels = pixels.flip(3)
            loss = F.cross_entropy(network(pixels)[1], labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        accuracy = evaluate(network.eval(), images[held], labels[held])
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}, held-out accuracy {accuracy:.4f}", flush=True)
    about = {
        "source": "python -m benchmarks.fashion_classifier",
        "data": f"Fashion-MNIST (MIT), {seen} training images",
        "held_out_accuracy": f"{accuracy:.4f}",
    }
    save_file(parameters_of(network), out, metadata=about)
    print(f"{out}: {out.stat().st_size:,} bytes")


def read(data: Path) -> tuple[Tensor, Tensor]:
    """All images (N, 3, 32, 32) uint8 and labels (N,), in the order of the stream."""
    stream = open_stream(data, resolution=SIDE, channels=1, classes=CLASSES, workers=1, worker_kind="thread")
    with stream.batches(0, batch_size=1000, stop=stream.count) as batches:
        parts = [(batch.images, batch.labels) for batch in batches]
    return torch.cat([p[0] for p in parts]).expand(-1, 3, -1, -1), torch.cat([p[1] for p in parts])


@torch.no_grad()
def evaluate(network: FashionClassifier, images: Tensor, labels: Tensor) -> float:
    """Share of images that are classified rightly."""
    guesses = torch.cat([network(part)[1].argmax(1) for part in images.split(500)])
    return float((guesses == labels).double().mean())


if __name__ == "__main__":
    tyro.cli(train)
