"""What the service manager hears of a node: it is ready, it lives, how it is (man 3 sd_notify), where its broker's files are."""

import os
import signal
import socket
from pathlib import Path

from agent import durable

BEAT_S = 20.0  # a third of the unit's WatchdogSec
LATEST_S = 30.0  # a node whose broker does not come is up as well: its watchdog must run, and the boot go on
LONGEST = 200  # characters of a status


class Service:
    """Tells the service manager, or nobody where there is none. Only the node's own thread calls it: so its hang is noticed."""

    def __init__(self, address: str | None = None, watchdog_us: str | None = None, watchdog_pid: str | None = None) -> None:
        """The values of $NOTIFY_SOCKET (a path, or @name for an abstract one), $WATCHDOG_USEC and $WATCHDOG_PID."""
        self._address = address if address and address[0] in "/@" else None
        ours = not watchdog_pid or watchdog_pid == str(os.getpid())
        given = int(watchdog_us) / 1e6 if ours and watchdog_us and watchdog_us.isdecimal() else 0.0
        self._every_s = min(BEAT_S, given / 3) if given else None
        self._begun_s: float | None = None
        self._beaten_s = float("-inf")
        self._ready = False
        self._status = ""

    def tick(self, ready: bool, status: str, now: float) -> None:
        """Once each tick: is the node ready by now, and one line on how it is."""
        self._begun_s = now if self._begun_s is None else self._begun_s
        become_ready = not self._ready and (ready or now - self._begun_s >= LATEST_S)
        beat = self._every_s is not None and now - self._beaten_s >= self._every_s
        line = " ".join(status.split())[:LONGEST]
        words = ["READY=1"] * become_ready + ["WATCHDOG=1"] * beat + [f"STATUS={line}"] * (line != self._status)
        if words and self._say(words):  # what did not arrive is said again at the next tick
            self._ready |= become_ready
            self._beaten_s = now if beat else self._beaten_s
            self._status = line

    def stopping(self) -> None:
        self._say(["STOPPING=1"])

    def _say(self, words: list[str]) -> bool:
        if self._address is None:
            return True
        where = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.setblocking(False)  # a service manager that does not listen must not stop the node
            try:
                line.sendto("\n".join(words).encode(), where)
            except OSError:
                return False  # its queue is full, it starts anew, or it is gone
        return True


def from_environment() -> Service:
    get = os.environ.get
    return Service(get("NOTIFY_SOCKET"), get("WATCHDOG_USEC"), get("WATCHDOG_PID"))


def tell_broker(config: Path, told: str | None) -> None:
    """Write down in the file `told` ($GRID_BROKER; None: nobody asks) that the node's Mosquitto is to run with `config`.

    One that runs with what was told before (the node's id or state directory was changed) is ended, so that its service
    starts it with this. Raises OSError.
    """
    if not told:
        return
    path = Path(told)
    before = Path(path.read_text().strip()) if path.exists() else config
    durable.write(path, f"{config}\n".encode(), to_disk=False)  # in memory
    if before != config:
        _end(before)


def _end(config: Path) -> None:
    """End the Mosquitto that runs with this configuration, if one does."""
    try:
        pid = int((config.parent / "mosquitto.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if Path(os.fsdecode(words[0])).name == "mosquitto" and os.fsencode(config) in words:
            os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        pass  # none runs
