"""Ports for real parts of tests."""

import contextlib
import os
import random
import socket

PORTS = 3_000  # for each worker of a run; of several runs at once each begins somewhere else
_next = random.randrange(PORTS)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    return [free_range(1) for _ in range(count)]


def free_range(count: int) -> int:
    """The first of so many free ports in a row; none comes again soon.

    They lie below those that a system hands out for outgoing connections (Linux: from 32768): some client of a test that runs
    beside this one would take one of them between our look and our use.
    """
    global _next
    low = 20_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4 * PORTS
    while True:
        first = low + (_next if _next + count <= PORTS else 0)
        _next = first + count - low
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return first
