"""Chooses the network interface through which the processes of several machines talk.

Gloo listens on the address that this machine's own name stands for. On many distributions that is 127.0.0.1 or
127.0.1.1, where no other machine can connect, and the launch fails after minutes. (NCCL looks for an interface by
itself.) So the interface is chosen here, as the one that leads to the first machine. A GLOO_SOCKET_IFNAME set by hand
takes precedence.
"""

from __future__ import annotations

import ipaddress
import os
import socket

import psutil

_ANY_PORT = 9
# Addresses for documentation (RFC 5737, RFC 3849): never answered, so they lead to the default route.
_ELSEWHERE = ("192.0.2.1", "2001:db8::1")


def adopt_interface() -> None:
    """Tell gloo the interface of a launch over several machines, unless the user has done so."""
    if "GLOO_SOCKET_IFNAME" in os.environ or not over_several_machines():
        return
    for address in (os.environ.get("MASTER_ADDR", ""), *_ELSEWHERE):
        if interface := interface_towards(address):
            os.environ["GLOO_SOCKET_IFNAME"] = interface
            return


def over_several_machines() -> bool:
    """Return whether the launcher's variables say that other machines take part."""
    world, here = os.environ.get("WORLD_SIZE", "1"), os.environ.get("LOCAL_WORLD_SIZE", "")
    return world.isdigit() and here.isdigit() and int(world) > int(here)


def interface_towards(address: str) -> str | None:
    """Return the name of the interface through which this machine reaches `address`.

    An address of this machine is reached through the interface that carries it. None stands for a loopback address and
    for an address that cannot be reached.
    """
    source = source_towards(address)
    if source is None or ipaddress.ip_address(source).is_loopback:
        return None
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] == source for one in addresses):
            return name
    return None


def source_towards(address: str) -> str | None:
    """Return the address of this machine that others at `address` would see; None where there is no route.

    Nothing is sent.
    """
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address, _ANY_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # a datagram socket only looks up the route
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return None
