"""Where a broker listens: host and port, as people write them."""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final

MQTT_PORT: Final = 1883  # registered with IANA for MQTT without TLS
TLS_PORT: Final = 8883  # and with it


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A TCP end point; the host of an IPv6 one is without brackets. `usual`: nobody wrote the port, it is the usual one."""

    host: str
    port: int
    usual: bool = field(default=False, compare=False)

    def or_at(self, port: int) -> "Address":
        """The same; with this port where none was written."""
        return Address(self.host, port) if self.usual else self

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def to_address(text: str, port: int = MQTT_PORT) -> Address | None:
    """What "host", "host:port", "[IPv6]" or "[IPv6]:port" names, by default on this port; None if it cannot be dialled."""
    found = re.fullmatch(r"(?:\[([^\[\]]*:[^\[\]]*)\]|([^:\[\]]*))(?::([0-9]{1,5}))?", text)
    host = host_of(found[1] or found[2]) if found else None
    usual = found is not None and found[3] is None
    port = int(found[3] or port) if found else 0
    return Address(host, port, usual) if host not in (None, "0.0.0.0", "::") and 1 <= port <= 65535 else None


def host_of(text: str) -> str | None:
    """A name in small letters or an IP address in its shortest spelling; None if `text` is neither."""
    if not re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?", text):
        return text.lower() if len(text) <= 253 and _NAME.fullmatch(text) else None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


_LABEL: Final = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
