"""Ports: the serial ports of this machine."""

from __future__ import annotations

from pathlib import Path

_BY_ID = Path("/dev/serial/by-id")  # names that stay when an adapter is plugged into another socket


def ports() -> list[str]:
    """The paths of all serial ports, by the name that stays where there is one."""
    from serial.tools import list_ports  # type: ignore[import-untyped]

    stays = {str(link.resolve()): str(link) for link in sorted(_BY_ID.glob("*"))} if _BY_ID.is_dir() else {}
    return sorted({stays.get(port.device, port.device) for port in list_ports.comports()})
