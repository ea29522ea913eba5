"""Checkpoints: canonical, engine-free, atomic. `layout` describes the format; nothing else in here is needed to use it.

with Writer(run / "checkpoints", rank=rank, world=world, token=token, retention=Retention(last=3)) as writer:
    stall_seconds = writer.save(images, pieces, documents={"recipe.json": recipe}, record=states)

checkpoint, rejected = newest_valid(run / "checkpoints")
for piece in pieces:
    checkpoint.fill(piece)
"""

from framework.checkpoint.durable import JSON
from framework.checkpoint.errors import CheckpointError
from framework.checkpoint.find import Rejected, list_checkpoints, newest_valid, resolve
from framework.checkpoint.layout import Piece
from framework.checkpoint.reader import Checkpoint
from framework.checkpoint.retention import Retention, read_scores, record_score, to_delete
from framework.checkpoint.writer import Saved, Writer

__all__ = [
    "JSON",
    "Checkpoint",
    "CheckpointError",
    "Piece",
    "Rejected",
    "Retention",
    "Saved",
    "Writer",
    "list_checkpoints",
    "newest_valid",
    "read_scores",
    "record_score",
    "resolve",
    "to_delete",
]
