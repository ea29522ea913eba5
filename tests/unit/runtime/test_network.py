"""Which interface gloo is told: the one that leads to the first machine, and only where there are several machines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest

from framework.runtime import network
from tests.helpers.launch import environment
from tests.helpers.nodes import missing, nodes

SCRIPT = "import os; from framework.runtime import network as n; n.adopt_interface(); print(os.environ.get('{}'))"


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")


def test_this_machine_is_reached_through_nothing() -> None:
    assert network.source_towards("127.0.0.1") == "127.0.0.1"
    assert network.interface_towards("127.0.0.1") is None


def test_nowhere() -> None:
    assert network.source_towards("no-such-host.invalid") is None
    assert network.interface_towards("") is None


def test_an_own_address_is_reached_through_the_interface_that_carries_it() -> None:
    mine = {
        address.address: name
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    }
    if not mine:
        pytest.skip("this machine has no network")
    for address, name in mine.items():
        assert network.interface_towards(address) == name


def test_what_the_user_said_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine0")
    network.adopt_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine0"


@pytest.mark.parametrize("local", ["4", ""])
def test_one_machine_is_left_alone(monkeypatch: pytest.MonkeyPatch, local: str) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    network.adopt_interface()
    assert "GLOO_SOCKET_IFNAME" not in os.environ


@pytest.mark.faults
@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
def test_every_node_finds_its_way_to_the_first_one() -> None:
    """Also the first one to itself, though this machine's own name leads to 127.0.0.1."""
    with nodes(2) as two:
        for node in (0, 1):
            script = SCRIPT.format("GLOO_SOCKET_IFNAME")
            done = subprocess.run(
                two.on(node, [sys.executable, "-c", script]),
                capture_output=True,
                text=True,
                env=environment() | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": two.address(0)},
            )
            assert done.stdout.strip() == "eth0", done.stderr
