"""A line at which pretend meters answer, in a thread of its own, over TCP or a pretend serial port."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from drivers.faults import Answers
from drivers.modbus import Line
from drivers.served import Served


@contextmanager
def served(meter: Answers, door: str, baud: int = 9600, port: int = 0) -> Iterator[Line]:
    """The line at which it answers; `door` is "tcp" or "pty"."""
    server = Served(meter)
    thread = threading.Thread(target=server.run, daemon=True)
    if door == "tcp":
        line = Line("127.0.0.1", server.on_tcp("127.0.0.1", port), None)
    else:
        line = Line(None, None, server.on_pty(baud), baud, "8N1")
    thread.start()
    try:
        yield line
    finally:
        server.stop()
        thread.join()
