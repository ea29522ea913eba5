"""Vectors of classes, and the projection discriminator's use of them (Miyato & Koyama, arXiv:1802.05637)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ClassEmbedding(nn.Embedding):
    """One vector per class; weight (classes, dim).

    Labels are class indices (N,) int64, or weights over classes (N, classes), which mix the vectors.
    """

    def forward(self, labels: Tensor) -> Tensor:
        """The (N, dim) vectors of `labels`."""
        if labels.dim() == 1:
            return functional.embedding(labels, self.weight)
        return labels.to(self.weight.dtype) @ self.weight


def projection(
    features: Tensor, labels: Tensor | None, *, linear: nn.Linear, embedding: ClassEmbedding | None
) -> Tensor:
    """Logits (N,) of features (N, dim): `linear(f) + <embedding(label), f>` (arXiv:1802.05637, eq. 3).

    Without an embedding, labels do not matter.
    """
    logits = linear(features).squeeze(1)
    return logits if embedding is None else logits + (embedding(labels) * features).sum(1)
