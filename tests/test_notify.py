"""agent/notify.py: what the service manager hears, on a path and on an abstract name; and which broker it is to run."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.notify import BEAT_S, LATEST_S, LONGEST, Service, from_environment, tell_broker

MINUTE = "60000000"  # WatchdogSec=60, in microseconds


class Manager:
    """The other end: a datagram socket as systemd has it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.setblocking(False)

    def heard(self) -> list[list[str]]:
        got: list[list[str]] = []
        while True:
            try:
                got.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return got

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify") if request.param == "path" else f"@grid-test-{os.getpid()}")
    yield manager
    manager.close()


def test_a_node_is_ready_once_and_then_beats_a_third_of_the_watchdog(manager: Manager) -> None:
    service = Service(manager.address, MINUTE, str(os.getpid()))
    service.tick(False, "waits for its broker", 100.0)
    assert manager.heard() == [["WATCHDOG=1", "STATUS=waits for its broker"]]
    service.tick(False, "waits for its broker", 100.25)
    assert manager.heard() == []
    service.tick(True, "net 5 W", 100.5)
    assert manager.heard() == [["READY=1", "STATUS=net 5 W"]]
    for now in (101.0, 119.75):  # 60 s / 3 = 20 s after the first beat
        service.tick(True, "net 5 W", now)
    assert manager.heard() == []
    service.tick(False, "net 5 W", 120.0)  # what was ready once is so for good
    assert manager.heard() == [["WATCHDOG=1"]]
    service.stopping()
    assert manager.heard() == [["STOPPING=1"]]


def test_a_node_whose_broker_does_not_come_is_up_after_a_while(manager: Manager) -> None:
    service = Service(manager.address)
    for now in (5.0, 5.0 + LATEST_S - 0.25):
        service.tick(False, "", now)
    assert manager.heard() == []
    service.tick(False, "", 5.0 + LATEST_S)
    assert manager.heard() == [["READY=1"]]


@pytest.mark.parametrize(
    ("watchdog_us", "pid", "first", "second"),
    [
        ("9000000", None, 0, 3),  # 9 s / 3
        ("600000000", None, 0, BEAT_S),  # 200 s would do; no seldomer than that
        ("60000000", "1", None, None),  # meant for another process
        ("0", None, None, None),
        ("soon", None, None, None),
        (None, None, None, None),
    ],
)
def test_how_often_it_beats(
    manager: Manager, watchdog_us: str | None, pid: str | None, first: float | None, second: float | None
) -> None:
    service = Service(manager.address, watchdog_us, pid)
    beats = []
    for quarter in range(121):  # half a minute of ticks
        service.tick(True, "", quarter / 4)
        beats += [quarter / 4] if any("WATCHDOG=1" in words for words in manager.heard()) else []
    assert beats[:2] == ([] if first is None else [first, second])


def test_a_status_is_one_line_and_not_too_long(manager: Manager) -> None:
    service = Service(manager.address)
    service.tick(True, "one\nREADY=0\n two  " + "x" * 300, 0.0)
    (words,) = manager.heard()
    assert words[0] == "READY=1"
    assert words[1].startswith("STATUS=one READY=0 two xxx")
    assert len(words) == 2
    assert len(words[1]) == len("STATUS=") + LONGEST


def test_a_manager_that_is_gone_or_does_not_listen_stops_nothing(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    service = Service(manager.address, "3000000")  # a beat a second
    for now in range(2000):  # more than the socket's queue holds
        service.tick(True, f"status {now}", float(now))
    assert 0 < len(manager.heard()) < 2000
    manager.close()
    service.tick(True, "the path is there, nobody behind it", 3000.0)
    (tmp_path / "notify").unlink()
    service.tick(True, "gone", 4000.0)
    manager = Manager(str(tmp_path / "notify"))
    service.tick(True, "back", 5000.0)
    assert manager.heard() == [["WATCHDOG=1", "STATUS=back"]]
    manager.close()


def test_what_did_not_arrive_is_said_again(tmp_path: Path) -> None:
    service = Service(str(tmp_path / "notify"), MINUTE)
    service.tick(True, "up", 0.0)  # nobody is there yet
    manager = Manager(str(tmp_path / "notify"))
    service.tick(True, "up", 0.25)
    service.tick(True, "up", 0.5)
    assert manager.heard() == [["READY=1", "WATCHDOG=1", "STATUS=up"]]
    manager.close()


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "name"])
def test_without_a_manager_nothing_is_said(address: str | None) -> None:
    service = Service(address, MINUTE)
    service.tick(True, "x", 0.0)
    service.stopping()


def test_what_the_environment_says_counts(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    from_environment().tick(True, "", 0.0)
    assert manager.heard() == [["READY=1", "WATCHDOG=1"]]


# where the broker's configuration is


def test_the_broker_is_told_where_its_configuration_is(tmp_path: Path) -> None:
    told = tmp_path / "broker"
    for config in (tmp_path / "a/mosquitto.conf", tmp_path / "a/mosquitto.conf", tmp_path / "b/mosquitto.conf"):
        tell_broker(config, str(told))
        assert told.read_text() == f"{config}\n"
    assert os.listdir(tmp_path) == ["broker"]


def test_who_asks_nothing_is_told_nothing(tmp_path: Path) -> None:
    tell_broker(tmp_path / "mosquitto.conf", None)
    assert os.listdir(tmp_path) == []


def _mosquitto(folder: Path) -> "subprocess.Popen[bytes]":
    """A process that looks like a Mosquitto with this folder's configuration."""
    folder.mkdir()
    command = ["mosquitto", "-c", "import time; print(flush=True); time.sleep(60)", str(folder / "mosquitto.conf")]
    process = subprocess.Popen(command, executable=sys.executable, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    (folder / "mosquitto.pid").write_text(str(process.pid))
    return process


def test_the_former_one_is_ended_when_the_node_got_another_directory(tmp_path: Path) -> None:
    told = tmp_path / "broker"
    mine, other = _mosquitto(tmp_path / "my-house"), _mosquitto(tmp_path / "stranger")
    try:
        tell_broker(tmp_path / "my-house/mosquitto.conf", str(told))
        tell_broker(tmp_path / "my-house/mosquitto.conf", str(told))
        assert mine.poll() is None
        tell_broker(tmp_path / "mill/mosquitto.conf", str(told))
        assert mine.wait(5) == -signal.SIGTERM
        (tmp_path / "mill").mkdir()
        (tmp_path / "mill/mosquitto.pid").write_text(str(other.pid))  # a number that is another's now
        tell_broker(tmp_path / "third/mosquitto.conf", str(told))
        (tmp_path / "third").mkdir()
        (tmp_path / "third/mosquitto.pid").write_text("no number")
        tell_broker(tmp_path / "fourth/mosquitto.conf", str(told))
        assert other.poll() is None
    finally:
        for process in (mine, other):
            process.kill()
            process.communicate()
