"""Streams: lines on which a meter talks of its own accord, a serial port or a TCP gateway; and which ports there are."""

from __future__ import annotations

import select
import socket
import termios
from pathlib import Path
from typing import Any

from drivers.modbus import Line
from drivers.reading import MeterError

MOST_BYTES = 4096
_BY_ID = Path("/dev/serial/by-id")  # names that stay when an adapter is plugged into another socket
CONNECT_S = 5.0
_USED = (OSError, ValueError, termios.error)  # pyserial's own SerialException is an OSError


class Stream:
    """One line, opened when it is first read and again after it broke. For one thread."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._port: Any = None  # pyserial has no types
        self._socket: socket.socket | None = None

    def read(self, wait_s: float) -> bytes:
        """What has come, b"" when nothing did within wait_s. Raises MeterError when the line cannot be had or broke."""
        try:
            if self._port is None and self._socket is None:
                self._open()
            if self._socket is not None:
                return self._received(self._socket, wait_s)
            select.select([self._port], [], [], wait_s)  # pyserial's own timeout would set the port up anew at each change
            heard: bytes = self._port.read(MOST_BYTES)
            return heard
        except _USED as error:
            self.close()
            what = (error.strerror if isinstance(error, OSError) else None) or error
            raise MeterError(f"{self.line}: {what}; {self._way_out()}") from error

    def _open(self) -> None:
        if self.line.host is not None:
            self._socket = socket.create_connection((self.line.host, self.line.tcp_port), CONNECT_S)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return
        import serial  # type: ignore[import-untyped]  # 1 MB: only who has such a meter pays

        framing = self.line.framing
        self._port = serial.Serial(self.line.port, self.line.baud, int(framing[0]), framing[1], int(framing[2]), 0, exclusive=True)
        if framing[1] != "N":
            _check_parity(self._port.fileno())

    @staticmethod
    def _received(connection: socket.socket, wait_s: float) -> bytes:
        connection.settimeout(wait_s)
        try:
            heard = connection.recv(MOST_BYTES)
        except TimeoutError:
            return b""
        if not heard:
            raise ConnectionResetError("the other end closed the connection")
        return heard

    def _way_out(self) -> str:
        if self.line.host is not None:
            return "is the gateway on, in this network, and the address right?"
        return "is the adapter plugged in, the user in the group dialout, and no other program using the port?"

    def close(self) -> None:
        """Twice is fine."""
        port, self._port = self._port, None
        connection, self._socket = self._socket, None
        if port is not None:
            port.close()
        if connection is not None:
            connection.close()


def _check_parity(port: int) -> None:
    """Have a byte of wrong parity come as NUL, which the readers refuse: pyserial leaves it as it is (man 3 termios, INPCK)."""
    settings = termios.tcgetattr(port)
    settings[0] = settings[0] & ~(termios.IGNPAR | termios.PARMRK) | termios.INPCK
    termios.tcsetattr(port, termios.TCSANOW, settings)


def ports() -> list[str]:
    """The paths of this machine's serial ports, by the name that stays where there is one."""
    from serial.tools import list_ports  # type: ignore[import-untyped]

    stays = {str(link.resolve()): str(link) for link in sorted(_BY_ID.glob("*"))} if _BY_ID.is_dir() else {}
    return sorted({stays.get(port.device, port.device) for port in list_ports.comports()})
