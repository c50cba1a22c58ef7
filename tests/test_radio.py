"""Why there is no Wi-Fi: what iwd and the kernel say, told on the boot partition. Played here; boot_test.sh asks the real ones."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cards import MILL, WIFI, Card, started
from test_cli_boot import boot

from agent import radio

STATION = "/net/connman/iwd/0/7"


def managed(objects: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """As busctl --json=short prints what iwd manages."""
    data = {
        path: {
            f"net.connman.iwd.{name}": {key: {"type": "s", "data": value} for key, value in row.items()}
            for name, row in one.items()
        }
        for path, one in objects.items()
    }
    return json.dumps({"type": "a{oa{sa{sv}}}", "data": [data]})


def iwd(state: str, seen: Mapping[str, str], known: Mapping[str, str], joined: str | None = None) -> str:
    """A station in this state; networks in reach and those of wifi.toml, each with its type."""
    objects: dict[str, Any] = {"/net/connman/iwd/0": {"Adapter": {"Name": "phy0"}}}
    station = {"State": state, **({"ConnectedNetwork": f"{STATION}/{joined}"} if joined else {})}
    objects[STATION] = {"Device": {"Name": "wlan0", "Mode": "station"}, "Station": station}
    objects |= {f"{STATION}/{name}": {"Network": {"Name": name, "Type": kind}} for name, kind in seen.items()}
    objects |= {f"/net/connman/iwd/{name}": {"KnownNetwork": {"Name": name, "Type": kind}} for name, kind in known.items()}
    return managed(objects)


class Machine:
    """A root directory with a radio, and the programs that are asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self._bin = folder / "root", folder / "bin"
        self._bin.mkdir()
        self.radio("wlan0")
        monkeypatch.setenv("PATH", f"{self._bin}:/usr/bin:/bin")

    def radio(self, name: str) -> None:
        (self.root / "sys/class/net" / name / "phy80211").mkdir(parents=True)

    def says(self, program: str, text: str, code: int = 0) -> None:
        said = self._bin / f"{program}.txt"
        said.write_text(text)
        script = self._bin / program
        script.write_text(f'#!/bin/sh\necho "$@" >>{self._bin}/asked\ncat {said} {">&2" if code else ""}\nexit {code}\n')
        script.chmod(0o755)

    @property
    def asked(self) -> str:
        return (self._bin / "asked").read_text()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path, monkeypatch)
    found.says("ip", json.dumps([{"ifname": "wlan0", "addr_info": [{"family": "inet", "local": "192.168.1.7"}]}]))
    return found


@pytest.mark.parametrize(
    ("seen", "known", "words"),
    [
        (
            {"Oak House": "psk"},
            {"Oak House": "psk"},
            ["Oak House is in reach, but does not let this node in. Is the password right?"],
        ),
        ({"Garden": "open"}, {"Garden": "open"}, ["Garden is in reach, but does not let this node in. Ask who runs it"]),
        ({"Garden": "open"}, {"Garden": "psk"}, ["Garden has no password. Take the line out: password"]),
        ({"Garden": "psk"}, {"Garden": "open"}, ["Garden wants a password. Add the line: password"]),
        ({"Work": "8021x"}, {"Work": "psk"}, ["Work wants a name and a password for each user (802.1X)"]),
        ({"B": "psk", "A": "psk"}, {"C": "psk"}, ["C is not in reach. In reach: A, B. Is the name right"]),
        ({}, {"B": "psk", "A": "psk"}, ["A is not in reach. In reach: none. ", "B is not in reach. In reach: none. "]),
        ({"A": "psk"}, {}, ["iwd, which joins networks, knows none of wifi.toml's. "]),
    ],
)
def test_what_keeps_a_node_out(machine: Machine, seen: dict[str, str], known: dict[str, str], words: list[str]) -> None:
    for state in ("disconnected", "connecting"):
        machine.says("busctl", iwd(state, seen, known))
        found = radio.why_not(machine.root)
        assert [text[: len(word)] for text, word in zip(found, words, strict=True)] == words
    assert "call net.connman.iwd / org.freedesktop.DBus.ObjectManager GetManagedObjects" in machine.asked


def test_many_neighbours_are_not_all_named(machine: Machine) -> None:
    machine.says("busctl", iwd("disconnected", {f"n{number:02}": "psk" for number in range(40)}, {"mine": "psk"}))
    (text,) = radio.why_not(machine.root)
    assert "n07. Is" in text


def test_what_a_neighbour_calls_his_network_makes_no_line_and_no_command(machine: Machine) -> None:
    machine.says("busctl", iwd("disconnected", {"x\r\n  ! \x1b[2Jall is well\u202e\u2028": "open"}, {"mine": "psk"}))
    (text,) = radio.why_not(machine.root)
    assert "In reach: x??  ! ?[2Jall is well??. Is" in text


@pytest.mark.parametrize("state", ["connected", "roaming"])
def test_a_joined_network_with_an_address_is_all_that_is_wanted(machine: Machine, state: str) -> None:
    machine.says("busctl", iwd(state, {"A": "psk"}, {"A": "psk", "B": "psk"}, "A"))
    assert radio.why_not(machine.root) == []
    assert "-4 address show dev wlan0 scope global" in machine.asked
    for nothing in ("[]", "[{}]", '[{"ifname": "wlan0", "addr_info": []}]'):
        machine.says("ip", nothing)
        (text,) = radio.why_not(machine.root)
        assert text.startswith("A is joined, but gives no address (DHCP). ")


def test_one_radio_of_two_is_enough(machine: Machine) -> None:
    objects = json.loads(iwd("disconnected", {"A": "psk"}, {"A": "psk"}))["data"][0]
    more = json.loads(iwd("connected", {"A": "psk"}, {}, "A").replace("/0/7", "/1/8").replace("wlan0", "wlan1"))["data"][0]
    machine.says("busctl", json.dumps({"data": [{**objects, **more}]}))
    assert radio.why_not(machine.root) == []
    assert "dev wlan1 " in machine.asked


def test_without_a_radio_iwd_is_not_asked(machine: Machine) -> None:
    machine.says("busctl", "", 1)
    shutil.rmtree(machine.root / "sys/class/net/wlan0")
    (machine.root / "sys/class/net/eth0").mkdir()
    assert radio.why_not(machine.root) == [radio.NO_RADIO]


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("Call failed: The name is not activatable\nmore", 1, "Call failed: The name is not activatable. Look"),
        ("", 3, "busctl: exit code 3"),
        ("no JSON", 0, "cannot be asked"),
        ("[]", 0, "cannot be asked"),
        ('{"data": []}', 0, "cannot be asked"),
        ('{"data": [[]]}', 0, "cannot be asked"),
        ('{"data": [{"/a": {"net.connman.iwd.Station": {"State": 3}}}]}', 0, "cannot be asked"),
        ('{"data": [{"/a": {"net.connman.iwd.Network": {}}}]}', 0, "cannot be asked"),
        ('{"data": [{"/a": {"net.connman.iwd.Station": {"State": {"data": "connected"}}}}]}', 0, "cannot be asked"),
    ],
)
def test_an_iwd_that_does_not_answer_is_said(machine: Machine, text: str, code: int, word: str) -> None:
    machine.says("busctl", text, code)
    (found,) = radio.why_not(machine.root)
    assert word in found
    assert found.endswith(". Look: journalctl -u iwd")


def test_a_missing_busctl_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    (found,) = radio.why_not(machine.root)
    assert "No such file or directory: 'busctl'" in found


# on the card


def test_it_is_on_the_card_until_the_next_start(machine: Machine, tmp_path: Path) -> None:
    card = started(tmp_path / "card", grid_toml=MILL, wifi_toml=WIFI)
    (card.places.root / "sys/class/net/wlan0/phy80211").mkdir(parents=True)
    before = card.status
    machine.says("busctl", iwd("disconnected", {"Oak House": "psk"}, {"Oak House": "psk"}))
    for _ in range(2):
        done = boot(card, "--wifi")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "Oak House is in reach, but does not let this node in. Is the password right?\n"
        assert card.status == f"{before}{radio.MARK}\n  ! {done.stdout}"
    written = (card.places.boot / "grid-status.txt").stat().st_mtime_ns
    assert boot(card, "--wifi").returncode == 0
    assert (card.places.boot / "grid-status.txt").stat().st_mtime_ns == written  # the same again is not written
    card.boot()
    assert card.status == before


def test_who_joined_writes_nothing(machine: Machine, tmp_path: Path) -> None:
    card = started(tmp_path / "card", grid_toml=MILL, wifi_toml=WIFI)
    (card.places.root / "sys/class/net/wlan0/phy80211").mkdir(parents=True)
    machine.says("busctl", iwd("connected", {"Oak House": "psk"}, {"Oak House": "psk"}, "Oak House"))
    (card.places.boot / "grid-status.txt").unlink()
    assert boot(card, "--wifi").returncode == 0
    assert not (card.places.boot / "grid-status.txt").exists()


def test_a_card_that_takes_nothing_is_a_failure(machine: Machine, tmp_path: Path) -> None:
    card = Card(tmp_path / "card", grid_toml=MILL)
    shutil.rmtree(card.places.boot)
    done = boot(card, "--wifi")
    assert done.returncode == 1
    assert done.stderr.startswith("grid: grid-status.txt cannot be written: ")
