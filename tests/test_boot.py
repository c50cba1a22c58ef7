"""What the image makes of its boot partition: over directories, with what people do to files, and with the power cut anywhere."""

import contextlib
import dataclasses
import errno
import os
import re
import stat
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent import boot as booting
from agent import boot_parts, card
from agent import root as composition
from agent.boot_parts import Places, Told

HERE = Path(__file__).resolve().parent.parent
SHIPPED = (HERE / "config/grid.toml").read_text()
MILL = '[node]\nid = "mill"\nrated_w = 17250\n'
BARN = '[node]\nid = "barn"\nrated_w = 8050\n'
WRONG = '[node]\nid = "barn"\nratd_w = 8050\n'
WIFI = '[[wifi]]\nssid = "Oak House"\npassword = "a secret"\n'
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjaG8gZWNobyBlY2hvIGVjaG8gZWNobyBlY2g maria@desk"


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


# grid.toml


@pytest.mark.parametrize(
    "text",
    [
        MILL.encode(),
        b"\xef\xbb\xbf" + MILL.replace("\n", "\r\n").encode(),  # as Windows Notepad saves it
        SHIPPED.replace('"my-house"', '"mill"').encode(),
        MILL.rstrip().encode(),  # no end of the last line
    ],
)
def test_a_valid_file_is_taken(tmp_path: Path, text: bytes) -> None:
    card = Card(tmp_path)
    card.put(**{"grid.toml": text})
    told = card.boot()
    assert (card.id, told.problems) == ("mill", [])
    assert (card.places.data / "boot/config/grid.toml").read_bytes() == text
    assert (card.places.run / "problems").read_text() == ""
    assert card.status.splitlines()[2:4] == ["Node: mill, mill.local in the local network", "Settings: grid.toml was taken"]
    assert os.readlink(card.root("etc/grid")) == str(card.places.data / "boot/config")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (WRONG, "grid.toml:3: node.ratd_w: unknown. Did you mean rated_w?"),
        (MILL.replace('"mill"', "mill"), "grid.toml:2: file: not TOML"),
        (MILL.replace('id = "mill"\n', ""), "grid.toml:1: node.id: missing"),
        ("", "grid.toml:1: node.id: missing"),
        ("\0" * 4096, "grid.toml:1: file: not TOML"),  # what a card gives back whose sectors were never written
        (MILL.encode("utf-16"), "grid.toml:1: file: not UTF-8 (byte 0xff). Save it again with the encoding UTF-8"),
        (MILL.replace("mill", "Mühle").encode("latin-1"), "grid.toml:2: file: not UTF-8 (byte 0xfc)"),
        (MILL + '[state]\ndir = "/home/me"\n', "grid.toml: state.dir: on the image only what is below /var/lib/grid"),
        (MILL + '[state]\ndir = "/var/lib/grid/../x"\n', "grid.toml: state.dir: on the image only"),
        (MILL + '[state]\ndir = "here"\n', "grid.toml: state.dir: on the image only"),
        (MILL + '[[meter]]\nname = "m"\nmodel = "./mine.toml"\nrole = "grid"\nport = "/dev/ttyUSB0"\n', "mine.toml"),
        (MILL + "#" * boot_parts.LARGEST, "grid.toml cannot be read: larger than any"),
    ],
)  # fmt: skip
def test_an_invalid_file_leaves_the_last_good_one_in_force(tmp_path: Path, text: str | bytes, says: str) -> None:
    card = started(tmp_path, grid_toml=BARN)
    card.put(**{"grid.toml": text})
    told = card.boot()
    assert card.id == "barn"
    assert any(says in problem for problem in told.problems), told.problems
    assert "Settings: grid.toml was not taken. The last good ones stay in force\n" in card.status
    assert says in card.status
    assert says in (card.places.run / "problems").read_text()
    assert str(tmp_path) not in card.status  # who has the card in another machine knows no such place
    card.put(**{"grid.toml": MILL})
    assert card.boot().problems == []
    assert card.id == "mill"


def test_without_any_good_settings_the_node_runs_under_a_name_of_its_machine(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=WRONG)
    assert card.id == "node-c3d4"  # the end of the Pi's serial number
    assert composition.load(card.root("etc/grid/grid.toml")).meters == ()
    assert card.root("etc/hostname").read_text() == "node-c3d4\n"
    assert "Settings: grid.toml was not taken. Until there are good ones, this node runs without meters\n" in card.status
    card.put(**{"grid.toml": MILL})
    card.boot()
    assert card.id == "mill"
    assert [path.name for path in (card.places.data / "boot").glob("config-*")] == [os.readlink(card.places.data / "boot/config")]


@pytest.mark.parametrize("text", [SHIPPED, "\ufeff" + SHIPPED.replace("\n", "\r\n"), SHIPPED + "\n\n"])
def test_what_nobody_edited_is_not_taken(tmp_path: Path, text: str) -> None:
    """Two such cards would both be my-house."""
    card = started(tmp_path, grid_toml=text)
    assert card.id == "node-c3d4"
    assert "Settings: grid.toml was not edited yet." in card.status


@pytest.mark.parametrize(
    ("serial", "address", "id_"),
    [
        (b"10000000a1b2c3d4\0", "52:54:00:12:34:56", "node-c3d4"),
        (b"0000000000000000\0", "52:54:00:12:34:56", "node-3456"),
        (None, "52:54:00:12:34:56", "node-3456"),
        (b"f\0", None, "node-000f"),
    ],
)
def test_the_name_of_the_machine(tmp_path: Path, serial: bytes | None, address: str | None, id_: str) -> None:
    card = Card(tmp_path)
    path = card.root("proc/device-tree/serial-number")
    path.unlink() if serial is None else path.write_bytes(serial)
    for name, text in (("lo", "00:00:00:00:00:00"), ("eth0", address)):
        if text is not None:
            card.root(f"sys/class/net/{name}").mkdir(parents=True)
            card.root(f"sys/class/net/{name}/address").write_text(f"{text}\n")
    card.boot()
    assert card.id == id_


def test_a_machine_without_any_number_keeps_the_one_it_drew(tmp_path: Path) -> None:
    card = Card(tmp_path)
    card.root("proc/device-tree/serial-number").unlink()
    card.boot()
    first = card.id
    assert re.fullmatch("node-[0-9a-f]{4}", first)
    for text in (WRONG, "", SHIPPED):
        card.put(**{"grid.toml": text})
        card.boot()
        assert card.id == first
    (card.places.data / "boot/config-default/grid.toml").write_bytes(b"\xff")  # the card lost it
    card.boot()
    assert re.fullmatch("node-[0-9a-f]{4}", card.id)


def test_a_missing_file_leaves_the_last_settings(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL)
    (card.places.boot / "grid.toml").unlink()
    assert card.boot().problems == ["grid.toml is not on the boot partition"]
    assert card.id == "mill"
    assert "Settings: there is no grid.toml. The last good ones stay in force\n" in card.status


def test_a_boot_partition_that_is_not_there_leaves_the_last_settings(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL, wifi_toml=WIFI, ssh_pub=KEY)
    card.places.boot.rename(tmp_path / "elsewhere")
    problems = card.boot().problems
    assert problems[0] == "the boot partition cannot be read: No such file or directory"
    assert problems[-1].startswith("grid-status.txt cannot be written: ")
    assert card.id == "mill"
    assert card.root("var/lib/iwd/Oak House.psk").exists()
    assert not (card.places.run / "authorized_keys").exists()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("grid.toml.txt", "grid.toml"),
        ("Grid.TXT", "grid.toml"),
        ("grid (1).toml", "grid.toml"),
        ("grid - Copy.toml", "grid.toml"),
        ("grid copy.toml", "grid.toml"),
        ("wifi.toml.txt", "wifi.toml"),
        ("wifi.toml.rtf", "wifi.toml"),
        ("ssh.pub.txt", "ssh.pub"),
    ],
)
def test_a_name_that_windows_made_longer_is_told(tmp_path: Path, name: str, wanted: str) -> None:
    card = Card(tmp_path)
    card.put(**{name: MILL})
    problems = card.boot().problems
    assert problems[0].startswith(f"{name} is not read. Give it the name {wanted};")
    assert f"  ! {name} is not read" in card.status
    assert card.id == "node-c3d4"


def test_names_are_told_apart_as_fat_does(tmp_path: Path) -> None:
    card = Card(tmp_path)
    card.put(**{"GRID.TOML": MILL, "Wifi.Toml": WIFI, "README.txt": "x", "grid-status.txt": "old", "config.txt": "x"})
    assert card.boot().problems == []
    assert card.id == "mill"
    assert card.root("var/lib/iwd/Oak House.psk").exists()


def test_an_edit_on_the_running_node_stays_until_the_cards_file_changes(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL)
    card.root("etc/grid/grid.toml").write_text(MILL + 'place = "by hand"\n')
    card.boot()
    assert composition.load(card.root("etc/grid/grid.toml")).node.place == "by hand"
    card.put(**{"grid.toml": MILL + 'place = "by card"\n'})
    card.boot()
    assert composition.load(card.root("etc/grid/grid.toml")).node.place == "by card"


def test_what_the_card_lost_is_taken_from_the_boot_partition_again(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL)
    (card.places.data / "boot/config/grid.toml").write_bytes(b"\0" * 44)
    assert card.boot().problems == []
    assert card.id == "mill"


METER = '[[meter]]\nname = "m"\nmodel = "{}"\nrole = "grid"\nport = "/dev/ttyUSB0"\n'


def test_maps_come_along_and_change_together_with_the_settings(tmp_path: Path) -> None:
    given = next(path for path in sorted((HERE / "drivers/meters").glob("*.toml"))).read_text()
    card = Card(tmp_path)
    (card.places.boot / "maps").mkdir()
    (card.places.boot / "maps/mine.toml").write_text(given)
    card.put(**{"grid.toml": MILL + METER.format("maps/mine.toml")})
    assert card.boot().problems == []
    (meter,) = composition.load(card.root("etc/grid/grid.toml")).meters
    assert Path(meter.model).read_text() == given
    assert meter.model.startswith(str(card.root("etc/grid")))
    before = os.readlink(card.places.data / "boot/config")
    (card.places.boot / "maps/mine.toml").write_text(given + "\n# better\n")
    assert card.boot().problems == []
    assert (card.root("etc/grid/maps/mine.toml")).read_text().endswith("# better\n")
    assert os.readlink(card.places.data / "boot/config") != before
    (card.places.boot / "maps/mine.toml").write_text("nonsense")
    assert any("mine.toml" in problem for problem in card.boot().problems)
    assert (card.root("etc/grid/maps/mine.toml")).read_text().endswith("# better\n")


# the system


def test_names_of_the_system(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL.replace("rated_w", 'time_zone = "Europe/Berlin"\nrated_w'))
    assert card.root("proc/sys/kernel/hostname").read_text() == "mill"
    assert card.root("etc/hostname").read_text() == "mill\n"
    assert "127.0.1.1 mill\n" in card.root("etc/hosts").read_text()
    assert os.readlink(card.root("etc/localtime")) == "/usr/share/zoneinfo/Europe/Berlin"
    card.put(**{"grid.toml": MILL})
    card.boot()
    assert os.readlink(card.root("etc/localtime")) == "/usr/share/zoneinfo/Etc/UTC"


def test_a_time_zone_that_is_none_is_told(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL.replace("rated_w", 'time_zone = "Europe/Springfield"\nrated_w'))
    assert card.id == "mill"
    assert "  ! grid.toml: node.time_zone: there is no 'Europe/Springfield'." in card.status


def test_wifi_is_taken_and_stays_after_its_file_is_gone(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL, wifi_toml=WIFI)
    secret = card.root("var/lib/iwd/Oak House.psk")
    assert secret.read_text().endswith("Passphrase=a\\ssecret\n")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((card.places.data / "boot/wifi.toml").stat().st_mode) == 0o600
    assert "MulticastDNS=yes" in card.root("run/systemd/network/25-grid-wlan.network").read_text()
    assert (card.places.run / "wifi").exists()
    assert "secret" not in card.status
    (card.places.boot / "wifi.toml").unlink()
    secret.unlink()  # it was in memory
    card.boot()
    assert secret.exists()
    assert "Wi-Fi: there is no wifi.toml. The last good one stays in force. Networks: Oak House\n" in card.status


def test_wrong_wifi_leaves_the_last_good_and_an_empty_file_ends_it(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL, wifi_toml=WIFI)
    for wrong, says in (
        (WIFI.replace("password", "pasword"), "wifi.toml:3: wifi[1].pasword: unknown. Did you mean password?"),
        (WIFI.encode("utf-16"), "wifi.toml:1: file: not UTF-8"),
        ("#" * (boot_parts.LARGEST + 1), "wifi.toml cannot be read: larger than any settings are"),
    ):
        card.put(**{"wifi.toml": wrong})
        (problem, *_) = card.boot().problems
        assert problem.startswith(says)
        assert card.root("var/lib/iwd/Oak House.psk").exists()
        assert "Wi-Fi: wifi.toml was not taken. The last good one stays in force. Networks: Oak House\n" in card.status
    card.put(**{"wifi.toml": "# none any more\n"})
    assert card.boot().problems == []
    assert list(card.root("var/lib/iwd").iterdir()) == []
    assert not (card.places.run / "wifi").exists()
    (card.places.boot / "wifi.toml").unlink()
    card.boot()
    assert "Networks: none, only the cable\n" in card.status


def test_networks_that_are_named_no_more_are_forgotten(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL, wifi_toml=WIFI)
    card.put(**{"wifi.toml": WIFI.replace("Oak House", 'Tom\'s \\"best\\" ☕')})
    card.boot()
    assert [path.name for path in card.root("var/lib/iwd").iterdir()] == ["=" + 'Tom\'s "best" ☕'.encode().hex() + ".psk"]
    assert card.root("var/lib/iwd").exists()
    assert 'Networks: Tom\'s "best" ☕\n' in card.status


@pytest.mark.parametrize(
    ("text", "keys", "problems"),
    [
        (KEY, 1, 0),
        (f"\ufeff# mine\r\n{KEY}\r\n\r\n{KEY}\r\n".encode(), 2, 0),
        (f'{KEY}\ncommand="x" {KEY}\n', 1, 1),
        ("", 0, 1),
        ("ssh-ed25519\n", 0, 1),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n", 0, 1),
        (f"{KEY}\0\n", 0, 1),
    ],
)
def test_ssh_is_open_for_keys_alone(tmp_path: Path, text: str | bytes, keys: int, problems: int) -> None:
    card = started(tmp_path, grid_toml=MILL, ssh_pub=text)
    allowed = card.places.run / "authorized_keys"
    assert (allowed.read_text().splitlines() if allowed.exists() else []) == [KEY] * keys
    assert len((card.places.run / "problems").read_text().splitlines()) == 2 * problems  # a line before it
    assert (f"SSH: on for {keys} keys: ssh root@mill.local\n" in card.status) is (keys > 0)
    (card.places.boot / "ssh.pub").unlink()
    booting.boot(card.places)
    assert not allowed.exists()
    assert "SSH: off" in card.status


# what is written on the boot partition


def test_the_status_is_written_once_a_change(tmp_path: Path) -> None:
    card = started(tmp_path, grid_toml=MILL)
    before = (card.places.boot / "grid-status.txt").stat()
    for _ in range(3):
        card.boot()
    after = (card.places.boot / "grid-status.txt").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert b"\n" not in (card.places.boot / "grid-status.txt").read_bytes().replace(b"\r\n", b"")
    card.put(**{"grid.toml": BARN})
    card.boot()
    assert "Node: barn" in card.status


class Os:
    """The system's calls that change something: counted; one of them is the last, and what it was doing is half done."""

    CHANGE = ("open", "write", "fsync", "fchmod", "replace", "symlink", "makedirs")

    def __init__(self, last: int | None = None, fault: Callable[[str, tuple[object, ...]], OSError | None] | None = None) -> None:
        self.last, self.fault, self.calls = last, fault, 0

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in self.CHANGE:
            return real

        def call(*args: object, **named: object) -> object:
            if name == "open" and args[1] == os.O_RDONLY:
                return real(*args, **named)
            self.calls += 1
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
    for module in (card, booting, boot_parts):
        monkeypatch.setattr(module, "os", system)


MORE = WIFI + '[[wifi]]\nssid = "Garden"\npassword = "another one"\n'


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize(
    ("before", "after", "ids"),
    [
        ({}, {"grid.toml": MILL, "wifi.toml": WIFI, "ssh.pub": KEY}, {"mill"}),
        ({"grid.toml": MILL, "wifi.toml": WIFI}, {"grid.toml": BARN, "wifi.toml": MORE, "ssh.pub": KEY}, {"mill", "barn"}),
        ({"grid.toml": MILL, "wifi.toml": WIFI}, {"grid.toml": WRONG, "wifi.toml": "x"}, {"mill"}),
        ({}, {"grid.toml": WRONG}, {"node-c3d4"}),
    ],
)
def test_the_power_is_cut_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Mapping[str, str], after: Mapping[str, str], ids: set[str], part: int
) -> None:
    """At every moment the last settings or the new ones are whole, the user's files untouched; the next boot mends all."""
    with monkeypatch.context() as patch:
        system = Os()
        whole = made(tmp_path / "whole", before, after, patch, system)
    assert system.calls > 8
    for last in range(1 + part, system.calls + 1, 3):
        with monkeypatch.context() as patch:
            one = made(tmp_path / str(last), before, after, patch, Os(last))
        assert {name: (one.places.boot / name).read_text() for name in after} == dict(after)
        link = one.places.data / "boot/config"
        if link.is_symlink():
            assert composition.load(link / "grid.toml").node.id in ids
        else:
            assert not before
        one.boot()
        assert everything(one) == everything(whole), last


def made(folder: Path, before: Mapping[str, str], after: Mapping[str, str], patch: pytest.MonkeyPatch, system: Os) -> Card:
    one = Card(folder)
    if before:
        one.put(**before)
        one.boot()
    one.put(**after)
    under(patch, system)
    with contextlib.suppress(PowerCut):
        one.boot()
    return one


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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_boot_partition_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    card = started(tmp_path, grid_toml=MILL)
    card.put(**{"grid.toml": WRONG})
    under(monkeypatch, broken(card.places.boot, number))
    before = card.status
    problems = card.boot().problems
    assert problems[-1] == f"grid-status.txt cannot be written: {os.strerror(number)}"
    assert problems[0].startswith("grid.toml:1: node.rated_w: missing")
    assert (card.places.run / "problems").read_text().splitlines() == ["From the boot partition, at the last start:", *problems]
    assert (card.status, card.id) == (before, "mill")


def test_a_full_boot_partition_keeps_no_half_written_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = started(tmp_path, grid_toml=MILL)
    before = sorted(card.places.boot.iterdir())
    card.put(**{"grid.toml": BARN})
    room = [5]

    def fault(name: str, args: tuple[object, ...]) -> OSError | None:
        if name == "write" and b"what became" in bytes(args[1]):  # type: ignore[call-overload]
            room[0] = 0
            return OSError(errno.ENOSPC, "No space left on device")
        return None

    under(monkeypatch, Os(fault=fault))
    assert card.boot().problems == ["grid-status.txt cannot be written: No space left on device"]
    assert room == [0]
    assert sorted(card.places.boot.iterdir()) == before
    assert card.id == "barn"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_data_partition_that_cannot_be_written_leaves_it_to_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    card = started(tmp_path, grid_toml=MILL)
    card.put(**{"grid.toml": BARN, "wifi.toml": WIFI})
    under(monkeypatch, broken(card.places.data, number))
    problems = card.boot().problems
    assert card.id == "barn"
    assert os.readlink(card.root("etc/grid")) == str(card.places.run / "config")
    assert problems == [f"wifi.toml cannot be kept on the card: {os.strerror(number)}"]
    assert card.root("var/lib/iwd/Oak House.psk").exists()
    monkeypatch.undo()
    card.boot()
    assert os.readlink(card.root("etc/grid")) == str(card.places.data / "boot/config")


def test_a_data_partition_that_gives_back_something_else_leaves_it_to_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Card(tmp_path, grid_toml=MILL)
    write = card.write

    def garble(path: Path, data: bytes, mode: int | None = None) -> bool:
        return write(path, b"\0" * len(data) if path.is_relative_to(one.places.data) else data, mode)

    monkeypatch.setattr(card, "write", garble)
    assert one.boot().problems == []
    assert (one.id, os.readlink(one.root("etc/grid"))) == ("mill", str(one.places.run / "config"))


def test_a_boot_partition_that_reads_otherwise_the_second_time_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = started(tmp_path, grid_toml=BARN)
    one.put(**{"grid.toml": MILL})
    monkeypatch.setattr(booting, "read", lambda path: b"\0" * 40)
    problems = one.boot().problems
    assert (one.id, "not TOML" in problems[0]) == ("barn", True)
    assert "Settings: grid.toml could not be copied. The last good ones stay in force" in one.status


def test_a_part_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(tmp_path)
    card.put(**{"grid.toml": MILL, "wifi.toml": WIFI, "ssh.pub": KEY})
    under(monkeypatch, broken(card.root("var"), errno.ENOSPC))
    assert card.boot().problems == [f"{card.root('var/lib/iwd')}: No space left on device"]
    assert (card.places.run / "authorized_keys").exists()


def test_nothing_can_be_written_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(tmp_path)
    card.put(**{"grid.toml": MILL})
    under(monkeypatch, broken(tmp_path, errno.EROFS))
    with pytest.raises(OSError, match="Read-only"):
        card.boot()


# a partition that is mounted read-only


def mounts(folder: Path, script: str = "") -> tuple[Path, Path]:
    """A mount program that writes down what it is asked, and where."""
    program, log = folder / "mount", folder / "mount.log"
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\n{script}')
    program.chmod(0o755)
    return program, log


class ReadOnly(Os):
    def statvfs(self, path: Path) -> types.SimpleNamespace:
        return types.SimpleNamespace(f_flag=os.ST_RDONLY)


def test_a_read_only_partition_is_opened_for_the_moment_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Card(tmp_path / "card")
    one.put(**{"grid.toml": MILL})
    program, log = mounts(tmp_path)
    monkeypatch.setattr(card, "os", ReadOnly())
    for _ in range(3):
        assert booting.boot(dataclasses.replace(one.places, mount=str(program))).problems == []
    assert log.read_text().splitlines() == [f"-o remount,{how} {one.places.boot}" for how in ("rw", "ro")]
    assert "Node: mill" in one.status


def test_a_partition_is_closed_again_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, log = mounts(tmp_path)
    monkeypatch.setattr(card, "os", ReadOnly())
    with pytest.raises(OSError, match="full"), card.writable(tmp_path, str(program)):
        raise OSError(errno.ENOSPC, "full")
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["remount,rw", "remount,ro"]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ('echo "mount: cannot remount /dev/mmcblk0p1 read-write, is write-protected." >&2; exit 32', "is write-protected."),
        ("exit 1", "remount,rw"),
        ('case "$*" in *ro*) echo "is busy" >&2; exit 32;; esac', "is busy"),
    ],
)
def test_a_partition_that_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str) -> None:
    one = Card(tmp_path / "card")
    one.put(**{"grid.toml": MILL})
    monkeypatch.setattr(card, "os", ReadOnly())
    (problem,) = booting.boot(dataclasses.replace(one.places, mount=str(mounts(tmp_path, script)[0]))).problems
    assert problem.startswith("grid-status.txt cannot be written: mount -o remount,")
    assert says in problem
    assert one.id == "mill"


def test_a_mount_that_hangs_does_not_stop_the_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "os", ReadOnly())
    monkeypatch.setattr(card, "MOUNT_S", 0.2)
    with pytest.raises(OSError, match="takes longer"), card.writable(tmp_path, str(mounts(tmp_path, "sleep 5")[0])):
        pass


# files


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_is_written_only_when_it_differs(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "x"
    old = os.umask(0o077)
    try:
        assert card.write(path, b"one", mode)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert not card.write(path, b"one", mode)
    assert card.write(path, b"two", mode)
    assert not card.write(path, b"two")
    path.chmod(0o666)
    assert card.write(path, b"two", mode)
    assert [name.name for name in tmp_path.iterdir()] == ["x"]


def test_links_in_the_way_lead_nowhere(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "x"
    other.write_text("precious")
    path.symlink_to(other)
    assert card.write(path, b"precious", 0o644)
    assert not path.is_symlink()
    (tmp_path / "y.new").symlink_to(other)
    with pytest.raises(OSError, match="symbolic"):
        card.write(tmp_path / "y", b"mine")
    assert card.write(tmp_path / "y", b"mine")  # it was taken away
    assert other.read_text() == "precious"


def test_a_link_is_made_only_when_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert card.link(path, "one")
    assert not card.link(path, "one")
    (tmp_path / "x.new").write_text("left over")
    assert card.link(path, "two")
    assert os.readlink(path) == "two"
