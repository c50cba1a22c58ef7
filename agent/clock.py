"""The wall clock: is it known to be right? The kernel knows whether a time server, or a clock chip that it trusts, set it."""

import ctypes
import sys
import time

UNSYNCHRONISED = 0x0040  # STA_UNSYNC of man 2 adjtimex
LOOK_S = 10.0


def synchronised() -> bool | None:
    """Does the kernel hold its clock for synchronised? None where it cannot be asked."""
    buffer = ctypes.create_string_buffer(512)  # struct timex, zeroed: modes = 0 only reads
    if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) < 0:
        return None
    status = int.from_bytes(buffer.raw[40:44] if ctypes.sizeof(ctypes.c_long) == 8 else buffer.raw[20:24], sys.byteorder)
    return not status & UNSYNCHRONISED


class Clock:
    """Unix time and whether it is good, looked at now and then."""

    def __init__(self) -> None:
        self._good, self._looked_s = False, float("-inf")

    def read(self, now: float) -> tuple[float, bool]:
        """(seconds since 1970, is that known to be right); where the kernel cannot be asked it is taken for right."""
        if now - self._looked_s >= LOOK_S:
            self._good, self._looked_s = synchronised() is not False, now
        return time.time(), self._good
