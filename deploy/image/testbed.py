"""What all stages of boot_test.py work with: the table of figures, the cards with their meters, and two of them joined."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guest import Guest, Meter, free_port

HERE = Path(__file__).resolve().parent
GRID = HERE.parent.parent / ".venv/bin/grid"
BOOT_S = 900.0  # an emulated boot on a busy machine
JOIN_S = 600.0


class Failed(Exception):
    """What must hold does not."""


class Bench:
    """The table of what was measured, the guests, and the places they use."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.image: Path = options.image or folder / "image"
        self.rows: list[tuple[str, str]] = []
        self.random = random.Random(options.seed)
        self.meters = contextlib.ExitStack()
        self.guests: dict[str, Guest] = {}
        self.meter_of: dict[str, str] = {}
        self.key = folder / "key"
        self.wire = free_port()

    def figure(self, what: str, value: object) -> None:
        self.rows.append((what, str(value)))
        print(f"  {what}: {value}", flush=True)

    def guest(
        self, name: str, number: int, join: str | None = None, machine: str = "virt", more: str = "", wifi: str = ""
    ) -> Guest:
        """A card with this configuration, made once; `more`: what its grid.toml ends with, `wifi`: its wifi.toml."""
        if name not in self.guests:
            guest = Guest(self.folder / name, self.image, name, number, machine)
            if machine == "virt":
                meter = Meter(GRID, "eastron-sdm630", [f"w={1000 * number}"])
                self.meters.callback(meter.close)
                self.meter_of[name] = meter.terminal
            files = {
                "grid.toml": settings(name, number, join, machine == "virt") + more,
                "ssh.pub": self.key.with_suffix(".pub").read_text(),
            }
            guest.edit({**files, "wifi.toml": wifi} if wifi else files)
            self.guests[name] = guest
        return self.guests[name]

    def start(self, guest: Guest) -> None:
        guest.start(self.meter_of.get(guest.name), self.wire if guest.machine == "virt" else None)

    def pull(self) -> None:
        """All plugs."""
        for guest in self.guests.values():
            guest.pull()

    def close(self) -> None:
        self.pull()
        self.meters.close()


def settings(name: str, number: int, join: str | None, meter: bool) -> str:
    """A user's grid.toml: the open mode, slots of a minute, so that counters move within the test."""
    text = f'[node]\nid = "{name}"\nplace = "Card {number}"\nrated_w = 17250\n[tariff]\nslot_min = 1\n[network]\nclosed = false\n'
    text += f'join = ["{join}.local:1883"]\n' if join else ""
    if meter:
        text += f'[[meter]]\nname = "house"\nmodel = "eastron-sdm630"\nrole = "grid"\nport = "/dev/grid/meter-METER{number}"\n'
    return text


def wait(what: str, limit_s: float, seen: Callable[[], Any], guests: list[Guest]) -> Any:
    """What is seen when it is true. Raises Failed when it does not come, or a guest ends."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if found := seen():
            return found
        for guest in guests:
            if not guest.runs():
                raise Failed(
                    f"{guest.name} ended while waiting for {what}:\n{(guest.folder / 'qemu.log').read_text()}\n{guest.last_words()}"
                )
        time.sleep(0.5)
    raise Failed(f"no {what} after {limit_s:.0f} s; the end of {guests[0].name}'s console:\n{guests[0].last_words()}")


def pair(bench: Bench) -> None:
    """Two cards: the second one's grid.toml names the first, and both have one price and each other."""
    oak, elm = bench.guest("oak", 1), bench.guest("elm", 2, join="oak")
    for guest in (oak, elm):
        if not guest.runs():
            bench.start(guest)
    for guest in (oak, elm):
        wait(f"price of {guest.name}", BOOT_S, guest.price, [elm, oak])
    begun_s = time.monotonic()
    joined(bench, [oak, elm])
    bench.figure("pair joined, after both had a price", f"{time.monotonic() - begun_s:.0f} s")
    bench.figure("their price", " and ".join(str(guest.price()) for guest in (oak, elm)))


def joined(bench: Bench, guests: list[Guest]) -> None:
    """Each counts all, with readings, and says the same."""
    names = {guest.name for guest in guests}

    def agree() -> bool:
        views = [guest.messages("grid/price", "grid/net", "grid/node/+/state", wait_s=4) for guest in guests]
        states = [{json.loads(text)["quality"] for topic, text in view.items() if topic.endswith("/state")} for view in views]
        counted = [{topic.split("/")[2] for topic in view if topic.endswith("/state")} for view in views]
        same = len({(view.get("grid/price"), view.get("grid/net")) for view in views}) == 1
        return same and all(one == names for one in counted) and all(one == {"good"} for one in states)

    wait("agreement of " + " and ".join(sorted(names)), JOIN_S, agree, guests)
