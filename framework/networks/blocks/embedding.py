"""Class embeddings, and the projection discriminator's use of them (Miyato & Koyama, arXiv:1802.05637)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ClassEmbedding(nn.Embedding):
    """An embedding with one vector per class; its weight is (classes, dim).

    Labels are class indices (N,) int64, or weights over classes (N, classes), which mix the vectors.
    """

    def forward(self, labels: Tensor) -> Tensor:
        """Return the vectors (N, dim) of labels (N,) int64 or (N, classes) weights over classes."""
        if labels.dim() == 1:
            return functional.embedding(labels, self.weight)
        return labels.to(self.weight.dtype) @ self.weight


def projection(
    features: Tensor, labels: Tensor | None, *, linear: nn.Linear, embedding: ClassEmbedding | None
) -> Tensor:
    """Return logits (N,) `linear(f) + <embedding(label), f>` of features f (arXiv:1802.05637, eq. 3).

    Args:
        features: (N, dim).
        labels: (N,) int64 or (N, classes) weights over classes; ignored without an embedding.
        linear: map from dim features to one logit.
        embedding: vectors of length dim; None = an unconditional discriminator.
    """
    logits = linear(features).squeeze(1)
    return logits if embedding is None else logits + (embedding(labels) * features).sum(1)
