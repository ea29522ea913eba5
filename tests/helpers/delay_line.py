"""A cable that is long: everything between two network devices arrives later.

    ip netns exec <where> python -m tests.helpers.delay_line near far

makes two TAP devices, says `ready`, and passes frames between them; each line of standard input is a new delay in
milliseconds, one way. It does what `tc qdisc add ... netem delay` does, where the kernel has no `sch_netem`.
"""

from __future__ import annotations

import collections
import fcntl
import os
import selectors
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


def tap(name: str) -> int:
    """A TAP device; its frames are read from and written to the descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor


def main() -> None:
    """Pass frames until standard input ends."""
    ends = [tap(name) for name in sys.argv[1:3]]
    other = dict(zip(ends, reversed(ends), strict=True))
    waiting: collections.deque[tuple[float, int, bytes]] = collections.deque()
    selector, delay_seconds = selectors.DefaultSelector(), 0.0
    for descriptor in (0, *ends):
        selector.register(descriptor, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for key, _ in selector.select(pause):
            if key.fd == 0:
                line = os.read(0, 100)
                if not line:
                    return
                delay_seconds = float(line.split()[-1]) / 1000.0
                continue
            try:
                frame = os.read(key.fd, 65536)
            except OSError:  # the device is down for the moment
                continue
            waiting.append((time.monotonic() + delay_seconds, other[key.fd], frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, target, frame = waiting.popleft()
            try:
                os.write(target, frame)
            except OSError:
                continue


if __name__ == "__main__":
    main()
