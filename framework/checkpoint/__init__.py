"""Checkpoints that any engine can read, written whole or not at all; `layout` describes the format.

This is how they are saved and read:

with Writer(run / "checkpoints", rank=rank, world=world, token=token, retention=Retention(last=3)) as writer:
    stall_seconds = writer.save(images, slices, documents={"recipe.json": recipe}, record=states)

checkpoint, rejected = newest_valid(run / "checkpoints")
for tensor_slice in slices:
    checkpoint.fill(tensor_slice)
"""

from framework.checkpoint.durable import JSON
from framework.checkpoint.errors import CheckpointError
from framework.checkpoint.find import Rejected, list_checkpoints, newest_valid, resolve
from framework.checkpoint.layout import TensorSlice
from framework.checkpoint.reader import Checkpoint
from framework.checkpoint.retention import Retention, read_scores, record_score, to_delete
from framework.checkpoint.writer import Saved, Writer

__all__ = [
    "JSON",
    "Checkpoint",
    "CheckpointError",
    "Rejected",
    "Retention",
    "Saved",
    "TensorSlice",
    "Writer",
    "list_checkpoints",
    "newest_valid",
    "read_scores",
    "record_score",
    "resolve",
    "to_delete",
]
