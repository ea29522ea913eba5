"""Run a function in several gloo processes, with a time-out that kills them all, and collect tensors from each.

The processes are forked from a server that has nothing of the caller's. `tests/conftest.py` lets it import the large
libraries, which takes seconds, once for all of them; without that, as in benchmarks, each process imports its own.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor

Worker = Callable[..., dict[str, Tensor]]


def run_ranks(worker: Worker, world: int, *arguments: Any, timeout_seconds: float = 240.0) -> list[dict[str, Tensor]]:
    """`worker(*arguments)` in `world` new processes with a gloo group; its tensors per rank.

    Results are judged by what was written, not by exit codes alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = mp.get_context("forkserver")
        environment = dict(os.environ)  # the server has that of the first call
        processes = [
            context.Process(target=_main, args=(worker, rank, world, folder, timeout_seconds, environment, arguments))
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout_seconds)
        for process in processes:
            if process.is_alive():
                process.kill()
        results = []
        for rank in range(world):
            failure = Path(folder, f"error-{rank}")
            if failure.exists():
                raise AssertionError(f"rank {rank} failed:\n{failure.read_text()}")
            output = Path(folder, f"{rank}.safetensors")
            if not output.exists():
                raise AssertionError(f"rank {rank} gave no result within {timeout_seconds} s")
            results.append(load_file(output))
        return results


def _main(
    worker: Worker,
    rank: int,
    world: int,
    folder: str,
    timeout_seconds: float,
    environment: dict[str, str],
    arguments: tuple[Any, ...],
) -> None:
    import datetime

    torch.set_num_threads(1)
    os.environ.clear()
    os.environ |= environment
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "LOCAL_RANK": str(rank)}  # DeepSpeed asks for the latter
    store = dist.FileStore(str(Path(folder, "store")), world)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=world, timeout=datetime.timedelta(seconds=timeout_seconds)
    )
    try:
        result = {name: value.contiguous() for name, value in worker(*arguments).items()}
        temporary = Path(folder, f"{rank}.part")
        save_file(result, temporary)
        temporary.rename(Path(folder, f"{rank}.safetensors"))
    except BaseException:
        Path(folder, f"error-{rank}").write_text(traceback.format_exc())
    finally:
        dist.destroy_process_group()
