"""One launch over several nodes that are network namespaces: a launcher on each, as a user starts them by hand."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.helpers.launch import ROOT, environment
from tests.helpers.nodes import Nodes

PORT = 29500


def accelerate(nodes: Nodes, node: int) -> list[str]:
    """`accelerate launch` on one node, one process each."""
    program = [sys.executable, str(Path(sys.executable).parent / "accelerate"), "launch"]
    config = ["--config_file", str(ROOT / "launch/accelerate/multi_node.yaml")]
    count = ["--num_machines", str(nodes.count), "--num_processes", str(nodes.count)]
    return [*program, *config, *count, "--machine_rank", str(node), "--main_process_ip", nodes.address(0)]


def torchrun(nodes: Nodes, node: int) -> list[str]:
    """The same by torchrun."""
    place = ["--nnodes", str(nodes.count), "--node_rank", str(node), "--nproc_per_node", "1"]
    meeting = ["--master_addr", nodes.address(0), "--master_port", str(PORT)]
    return [sys.executable, "-m", "torch.distributed.run", *place, *meeting]


def elastic(nodes: Nodes, node: int) -> list[str]:
    """Torchrun's launcher script, for a run that may go on with fewer nodes and take them back."""
    says = {
        "NUM_NODES": f"1:{nodes.count}",
        "NODE_RANK": node,
        "MAIN_ADDRESS": nodes.address(0),
        "MAIN_PORT": PORT,
        "LOCAL_ADDRESS": nodes.address(node),  # all namespaces have this machine's name
        "PROCESSES_PER_NODE": 1,
        "LAST_CALL_SECONDS": 5,
        "PYTHON": sys.executable,
        "JOB_SECRET": "0123456789abcdef" * 4,
    }
    return ["env", *(f"{name}={value}" for name, value in says.items()), str(ROOT / "launch/torchrun/node.sh")]


class ClusterLaunch:
    """Launchers under way, one per node; nothing outlives the block.

    Args:
        launcher: `accelerate` or `torchrun`.
        program: what they start, with its flags.
        folder: for logs, one per node.
        extra: more variables by node.
        prefix: what to put before a node's command.
    """

    def __init__(
        self,
        nodes: Nodes,
        launcher: object,
        program: Sequence[str],
        *,
        folder: Path,
        extra: dict[int, dict[str, str]] | None = None,
        prefix: dict[int, list[str]] | None = None,
    ) -> None:
        assert callable(launcher)
        folder.mkdir(parents=True, exist_ok=True)
        self.logs = [folder / f"node{node}.log" for node in range(nodes.count)]
        self._nodes, self._folder = nodes, folder
        self._commands = [
            nodes.on(node, [*(prefix or {}).get(node, []), *launcher(nodes, node), *program])
            for node in range(nodes.count)
        ]
        self._extra = extra or {}
        self.processes = [self._start(node) for node in range(nodes.count)]

    def _start(self, node: int) -> subprocess.Popen[bytes]:
        # As on a cluster: nobody has told gloo which interface to use.
        base = {name: value for name, value in environment().items() if name != "GLOO_SOCKET_IFNAME"}
        with self.logs[node].open("a") as output:
            return subprocess.Popen(
                self._commands[node],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=base | self._extra.get(node, {}),
                start_new_session=True,
                cwd=self._folder,
            )

    def start_again(self, node: int) -> None:
        """The same command on a node that had been lost."""
        assert self.processes[node].poll() is not None
        self.processes[node] = self._start(node)

    def __enter__(self) -> ClusterLaunch:
        return self

    def __exit__(self, *_: object) -> None:
        for node in range(len(self.processes)):
            self.kill(node)

    def text(self, node: int = 0) -> str:
        """What a node has printed."""
        return self.logs[node].read_text()

    def wait(self, *, timeout_seconds: float = 240.0) -> list[int]:
        """Exit status by node."""
        deadline = time.monotonic() + timeout_seconds
        try:
            return [process.wait(max(0.1, deadline - time.monotonic())) for process in self.processes]
        except subprocess.TimeoutExpired:
            texts = "\n".join(f"--- node {node}\n{self.text(node)}" for node in range(len(self.logs)))
            raise AssertionError(f"no end within {timeout_seconds:.0f} s\n{texts}") from None

    def until(self, text: str, *, times: int = 1, timeout_seconds: float = 180.0, without: int | None = None) -> None:
        """Wait until node 0 (or the next, `without` it) has printed `text` so many times; `without` a lost node."""
        deadline, node = time.monotonic() + timeout_seconds, 1 if without == 0 else 0
        while self.text(node).count(text) < times:
            alive = [p.poll() is None for i, p in enumerate(self.processes) if i != without]
            assert all(alive), f"ended without {text!r}:\n{self.text(node)}"
            assert time.monotonic() < deadline, f"no {text!r}:\n{self.text(node)}"
            time.sleep(0.02)

    def kill(self, node: int) -> None:
        """SIGKILL to everything on a node, as when its power goes."""
        process = self.processes[node]
        if process.poll() is None:
            family = psutil.Process(process.pid)
            members = [family, *family.children(recursive=True)]
            for member in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            psutil.wait_procs(members, timeout=30)
        process.wait()
