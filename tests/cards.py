"""Cards for the tests of the boot: directories with the four places, the machine they are in, and systems that fail."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import boot as booting
from agent import boot_parts, card, durable
from agent import root as composition
from agent.boot_parts import Places, Told
from agent.seal import Member

HERE = Path(__file__).resolve().parent.parent
SHIPPED = (HERE / "config/grid.toml").read_text()
MILL = '[node]\nid = "mill"\nrated_w = 17250\n'
BARN = '[node]\nid = "barn"\nrated_w = 8050\n'
WRONG = '[node]\nid = "barn"\nratd_w = 8050\n'
WIFI = '[[wifi]]\nssid = "Oak House"\npassword = "a secret"\n'
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjaG8gZWNobyBlY2hvIGVjaG8gZWNobyBlY2g maria@desk"
FIRST = MILL + '[network]\ncreate = "Mill Lane"\nadmit = ["oak", "barn"]\n'
OAK = '[node]\nid = "oak"\nrated_w = 8050\n[network]\nclosed = true\n'


class Card:
    """One card and the machine that it is in; files of the boot partition as text or bytes."""

    def __init__(self, folder: Path, **files: str | bytes) -> None:
        self.places = Places(folder / "boot", folder / "data", folder / "run", folder / "root")
        for place in ("boot", "data", "root/etc", "root/usr/share/grid", "root/usr/share/zoneinfo/Europe", "root/proc/sys/kernel"):
            (folder / place).mkdir(parents=True)
        (folder / "root/usr/share/grid/grid.toml").write_text(SHIPPED)
        for zone in ("Etc/UTC", "Europe/Berlin"):
            (folder / "root/usr/share/zoneinfo" / zone).parent.mkdir(exist_ok=True)
            (folder / "root/usr/share/zoneinfo" / zone).write_text("TZif2")
        (folder / "root/proc/sys/kernel/hostname").write_text("localhost\n")
        (folder / "root/proc/device-tree").mkdir()
        (folder / "root/proc/device-tree/serial-number").write_bytes(b"10000000a1b2c3d4\0")
        self.put(**{name.replace("_", "."): data for name, data in files.items()})

    def put(self, **files: str | bytes) -> None:
        for name, data in files.items():
            (self.places.boot / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    def boot(self) -> Told:
        """A boot: what was in memory is gone."""
        for path in self.places.run.glob("*"):
            if path.is_file() or path.is_symlink():
                path.unlink()
        return booting.boot(self.places)

    @property
    def id(self) -> str:
        """Of the node that the agent would be."""
        return composition.load(self.places.root / "etc/grid/grid.toml").node.id

    @property
    def status(self) -> str:
        return (self.places.boot / "grid-status.txt").read_bytes().decode().replace("\r\n", "\n")

    def root(self, name: str) -> Path:
        return self.places.root / name


def started(folder: Path, **files: str | bytes) -> Card:
    card = Card(folder, **files)
    card.boot()
    return card


class Os:
    """The system's calls that change something: counted; one of them is the last, and what it was doing is half done."""

    CHANGE = ("open", "write", "fsync", "fchmod", "replace", "symlink", "makedirs")

    def __init__(self, last: int | None = None, fault: Callable[[str, tuple[object, ...]], OSError | None] | None = None) -> None:
        self.last, self.fault, self.done = last, fault, list[str]()

    @property
    def calls(self) -> int:
        return len(self.done)

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in self.CHANGE:
            return real

        def call(*args: object, **named: object) -> object:
            if name == "open" and args[1] == os.O_RDONLY:
                return real(*args, **named)
            self.done.append(name)
            if self.fault is not None and (error := self.fault(name, args)) is not None:
                raise error
            if self.calls == self.last:
                if name == "write":
                    real(args[0], bytes(args[1])[:5])  # type: ignore[call-overload]
                raise PowerCut
            return real(*args, **named)

        return call


class PowerCut(BaseException):
    pass


def under(monkeypatch: pytest.MonkeyPatch, system: object) -> None:
    for module in (durable, card, booting, boot_parts):
        monkeypatch.setattr(module, "os", system)


def everything(one: Card) -> dict[str, tuple[int, bytes | str]]:
    """Whatever there is in all four places, but leftovers that the next write replaces."""
    base = one.places.boot.parent
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(base.rglob("*")):
        if (path.is_dir() and not path.is_symlink()) or path.suffix == ".new":
            continue
        here = os.readlink(path).replace(str(base), "") if path.is_symlink() else path.read_bytes()
        found[str(path.relative_to(base))] = (stat.S_IMODE(path.lstat().st_mode), here)
    return found


def broken(where: Path, number: int) -> Os:
    """Nothing can be written below `where`: a card that is full, or was made read-only by its own faults."""

    def fault(name: str, args: tuple[object, ...]) -> OSError | None:
        path = args[1] if name in ("replace", "symlink") else args[0]
        hit = isinstance(path, str | Path) and Path(path).is_relative_to(where)
        return OSError(number, os.strerror(number), str(path)) if hit else None

    return Os(fault=fault)


def trust(card: Card, id_: str) -> Path:
    return card.root(f"var/lib/grid/{id_}/trust")


def member(card: Card, id_: str) -> Member:
    found = Member.load(trust(card, id_))
    assert found is not None
    return found


def carried(first: Card, folder: Path) -> Card:
    """Another card, with what the first left for it."""
    card = Card(folder, grid_toml=OAK)
    card.put(**{"oak.bundle": (first.places.boot / "oak.bundle").read_bytes()})
    return card
