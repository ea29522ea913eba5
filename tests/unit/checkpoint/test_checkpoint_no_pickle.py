"""Nothing is unpickled while saving or loading: an audit hook watches a process that does both."""

import os
import subprocess
import sys

PROGRAM = """
import pickle, sys
from pathlib import Path
import torch
from framework.checkpoint import *

events = []
sys.addaudithook(lambda event, arguments: events.append(arguments) if event == "pickle.find_class" else None)

def slices(values):
    yield TensorSlice(key="generator/weight/w", start=0, values=values, shape=(4, 8))
    yield TensorSlice(key="generator/ema/w", start=0, values=values, shape=(4, 8))

folder = Path(sys.argv[1])
with Writer(folder, rank=0, world=1, token="t", retention=Retention(last=1, best=1)) as writer:
    for images in (1, 2):
        writer.save(images, slices(torch.arange(32.0)), documents={"recipe.json": {"a": 1}}, record={"b": 2})
        writer.wait()
record_score(folder / "2", "fid", 3.0)
checkpoint, rejected = newest_valid(folder)
out = torch.zeros(32)
for slice in slices(out):
    checkpoint.fill(slice)
assert torch.equal(out, torch.arange(32.0)) and checkpoint.document("recipe.json") == {"a": 1}
assert torch.equal(resolve(folder).full("generator/ema/w"), torch.arange(32.0).view(4, 8))
assert events == [], events

pickle.loads(pickle.dumps(Path("x")))  # the hook does see unpickling
assert events
print("nothing unpickled")
"""


def test_saving_and_loading_unpickle_nothing(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "nothing unpickled\n"
