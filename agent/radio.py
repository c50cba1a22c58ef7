"""Why this node is in none of its Wi-Fi networks, as iwd and the kernel have it: for grid-status.txt and `grid doctor`."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent import card, durable
from agent.boot import STATUS
from agent.boot_parts import Places

ASK_S = 20.0
MOST = 8  # networks of others that are named
IWD = "net.connman.iwd"
MARK = "Minutes later: not in a Wi-Fi network"
NO_RADIO = (
    "no radio was found, or its firmware is not in this image: so on those Zero 2 W whose radio is a BCM43430/2."
    " Take a cable, a USB adapter, or Raspberry Pi OS and deploy/install.sh"
)
UNKNOWN = "iwd, which joins networks, knows none of wifi.toml's. Look: journalctl -u iwd"


def why_not(base: Path = Path("/")) -> list[str]:
    """What keeps this node out of its networks, each with a way out; [] if it is in one and has an address there."""
    if not any((base / "sys/class/net").glob("*/phy80211")):
        return [NO_RADIO]
    try:
        call = ("busctl", "--json=short", "call", IWD, "/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        objects = _answer(*call)["data"][0]
        joined = _joined(objects)
        return _unserved(joined) if joined else _missed(objects) or [UNKNOWN]
    except (OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        return [f"iwd, which joins networks, cannot be asked: {error}. Look: journalctl -u iwd"]


def report(places: Places) -> list[str]:
    """Write what keeps this node out into grid-status.txt, until the next start. Raises OSError."""
    problems = why_not(places.root)
    if problems:
        status = places.boot / STATUS
        old = status.read_bytes().decode(errors="replace") if status.exists() else ""
        lines = "".join(f"{line}\r\n" for line in (MARK, *(f"  ! {problem}" for problem in problems)))
        if (new := old.partition(MARK)[0] + lines) != old:
            with card.writable(places.boot, places.mount):
                durable.update(status, new.encode())
    return problems


def _answer(*command: str) -> Any:
    """The JSON that a program prints. Raises OSError, ValueError."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} takes longer than {ASK_S:.0f} s") from error
    if done.returncode != 0:
        raise OSError((done.stderr.strip() or f"{command[0]}: exit code {done.returncode}").splitlines()[0])
    return json.loads(done.stdout)


Objects = Mapping[str, Mapping[str, Mapping[str, Any]]]  # by path, interface and property: {"type": …, "data": …}


def _rows(objects: Objects, interface: str) -> dict[str, dict[str, Any]]:
    """The objects with this interface of iwd's (its doc/*-api.txt), by path: their properties."""
    found = {path: one[f"{IWD}.{interface}"] for path, one in objects.items() if f"{IWD}.{interface}" in one}
    return {path: {name: value["data"] for name, value in row.items()} for path, row in found.items()}


def _joined(objects: Objects) -> list[tuple[str, str]]:
    """(network interface, name of the network that it is in)."""
    devices, networks = _rows(objects, "Device"), _rows(objects, "Network")
    return [
        (devices[path]["Name"], networks[station["ConnectedNetwork"]]["Name"])
        for path, station in _rows(objects, "Station").items()
        if station["State"] in ("connected", "roaming")
    ]


def _unserved(joined: list[tuple[str, str]]) -> list[str]:
    """[] if one of them gave an IPv4 address; one that a node takes itself (169.254) is none."""
    for device, _ in joined:
        shown = _answer("ip", "-json", "-4", "address", "show", "dev", device, "scope", "global")
        if any(one.get("addr_info") for one in shown):
            return []
    way_out = "Start the router again, and look whether it has addresses left"
    return [f"{name} is joined, but gives no address (DHCP). {way_out}" for _, name in joined]


def _missed(objects: Objects) -> list[str]:
    """Of each network of wifi.toml why it could not be joined."""
    seen: dict[str, set[str]] = {}
    for network in _rows(objects, "Network").values():
        seen.setdefault(network["Name"], set()).add(network["Type"])
    known = sorted((one["Name"], one["Type"]) for one in _rows(objects, "KnownNetwork").values())
    return [_why(name, kind, seen) for name, kind in known]


def _why(name: str, kind: str, seen: Mapping[str, set[str]]) -> str:
    """Of a network that is to be of this kind (psk or open); `seen`: those in reach and their kinds."""
    kinds = seen.get(name)
    if kinds is None:
        others = ", ".join(map(_shown, sorted(seen)[:MOST])) or "none"
        way_out = "Is the name right, the router on, and its channel one of radio.country's?"
        return f"{name} is not in reach. In reach: {others}. {way_out}"
    if kind in kinds:
        return f"{name} is in reach, but does not let this node in. " + (
            "Is the password right?" if kind == "psk" else "Ask who runs it"
        )
    if "psk" in kinds:
        return f"{name} wants a password. Add the line: password"
    if "open" in kinds:
        return f"{name} has no password. Take the line out: password"
    return (
        f"{name} wants a name and a password for each user (802.1X), which wifi.toml cannot tell. Take a network with one password"
    )


def _shown(name: str) -> str:
    """A name that anybody may have given: no line of its own, nothing that a terminal obeys."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)
