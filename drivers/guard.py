"""Guard: the strict ear of a serial Modbus line, which lets through only the answer to the last request."""

from __future__ import annotations

from collections.abc import Callable


class Guard:
    """Lets through the one intact frame that answers the request sent last.

    pymodbus itself takes any frame of the unit for the answer, so that a late one becomes the next one's value, and
    loses a frame behind one byte of noise. Goes into its trace_packet hook. Echoes, other units and noise are skipped.
    """

    def __init__(self, crc: Callable[[bytes], int], rest: Callable[[int], None]) -> None:
        """`rest` is called with the number of bytes that an answer begun still lacks, and may sleep while they come."""
        self._crc, self._rest = crc, rest
        self._unit = self._fc = self._bytes = -1
        self._head = b""

    def hook(self, sending: bool, data: bytes) -> bytes:
        if sending:
            self._unit, self._fc, self._bytes = data[0], data[1], 2 * int.from_bytes(data[4:6], "big")
            self._head = data[:6]
            return data
        for start in range(len(data) - 4):
            if data[start] == self._unit:
                frame = self._frame(data[start:])
                if frame:
                    return frame
        return b""

    def _frame(self, data: bytes) -> bytes:
        if self._fc == 16 and data[: len(self._head)] == self._head[: len(data)]:
            size = 8  # of a write, with address and count as asked; an echo of the request itself has no CRC there
        elif data[1] == self._fc and data[2] == self._bytes and self._fc != 16:
            size = 5 + self._bytes  # unit, function, byte count, data, CRC
        elif data[1] == self._fc | 0x80:
            size = 5  # unit, function, exception, CRC
        else:
            return b""
        frame = data[:size]
        if len(frame) < size:
            self._rest(size - len(frame))
            return b""
        return frame if self._crc(frame[:-2]).to_bytes(2, "big") == frame[-2:] else b""
