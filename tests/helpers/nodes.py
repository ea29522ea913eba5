"""Machines made of network namespaces: each has its own loopback and one interface `eth0`; files are shared.

The namespaces hang on a bridge in a namespace of its own, so this machine's network is never touched.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SUBNET = "10.77.0"
_numbers = itertools.count()


def missing() -> str:
    """Why no namespaces can be made here, for a skip; empty where they can."""
    if shutil.which("ip") is None:
        return "needs `ip` (iproute2)"
    if os.geteuid() != 0:
        return "needs root for `ip netns`"
    probe = f"probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if done.returncode:
        return f"`ip netns add` is refused here: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return ""


class Nodes:
    """Nodes 0 ... count - 1 with the addresses 10.77.0.1, .2, ..."""

    def __init__(self, count: int) -> None:
        self.count = count
        number = f"{os.getpid()}-{next(_numbers)}"
        self._names = [f"node{node}-{number}" for node in range(count)]
        self._switch = f"switch-{number}"
        self._lines: dict[int, subprocess.Popen[str]] = {}

    def address(self, node: int) -> str:
        """The node's IPv4 address."""
        return f"{SUBNET}.{node + 1}"

    def on(self, node: int, command: Sequence[str]) -> list[str]:
        """The command line that runs `command` on a node; the process id stays the command's."""
        return ["ip", "netns", "exec", self._names[node], *command]

    def cut(self, node: int) -> None:
        """Pull the node's cable."""
        _ip("-n", self._switch, "link", "set", f"port{node}", "down")

    def join(self, node: int) -> None:
        """Put the cable back."""
        _ip("-n", self._switch, "link", "set", f"port{node}", "up")

    def delay(self, node: int, milliseconds: float) -> None:
        """Everything to and from the node takes so much longer, each way; its cable is replaced the first time."""
        if node not in self._lines:
            self._lines[node] = self._long_cable(node)
        line = self._lines[node].stdin
        assert line is not None
        line.write(f"{milliseconds}\n")
        line.flush()

    def _long_cable(self, node: int) -> subprocess.Popen[str]:
        near, far = f"near{node}", f"far{node}"
        command = ["ip", "netns", "exec", self._switch, sys.executable, "-m", "tests.helpers.delay_line", near, far]
        root = Path(__file__).parents[2]
        line = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
        assert line.stdout is not None
        assert line.stdout.readline() == "ready\n"
        _ip("-n", self._names[node], "link", "delete", "eth0")
        _ip("-n", self._switch, "link", "set", far, "netns", self._names[node])
        _ip("-n", self._names[node], "link", "set", far, "name", "eth0")
        _ip("-n", self._switch, "link", "set", near, "master", "bridge", "up")
        _ip("-n", self._names[node], "address", "add", f"{self.address(node)}/24", "dev", "eth0")
        _ip("-n", self._names[node], "link", "set", "eth0", "up")
        return line

    def build(self) -> None:
        """Make the namespaces and their links."""
        for name in (self._switch, *self._names):
            _ip("netns", "add", name)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        for node, name in enumerate(self._names):
            ends = ("eth0", "netns", name, "type", "veth", "peer", "name", f"port{node}", "netns", self._switch)
            _ip("link", "add", *ends)
            _ip("-n", self._switch, "link", "set", f"port{node}", "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{self.address(node)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Take everything away; links go with their namespaces."""
        for line in self._lines.values():
            line.communicate(timeout=10)
        for name in (self._switch, *self._names):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@contextmanager
def nodes(count: int) -> Iterator[Nodes]:
    """`count` nodes for the duration of the block."""
    made = Nodes(count)
    try:
        made.build()
        yield made
    finally:
        made.remove()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
