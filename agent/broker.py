"""The Mosquitto beside the agent: its files written, the running one made to take them, and one that we start ourselves."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from agent import broker_conf, durable
from agent.events import Bridge, Event, Warned

BORN_S = 0.3  # Mosquitto writes its pid file a moment before it minds signals, which until then end it (seen with 2.0.11)
SETTLE_S = 0.3  # joins that come together cost one restart
RELOADS = (2, 1)  # from this version on a running broker takes bridges up on SIGHUP
RIGHTS, LINKS, AFRESH = "rights", "links", "afresh"  # what a running broker is asked to take up

WAY_OUT = "If it is the system's own: 'sudo systemctl disable --now mosquitto'; or choose another [mqtt] port"


@cache
def program() -> str:
    """Mosquitto's path; Debian keeps it where an ordinary user's PATH does not look. FileNotFoundError when it is missing."""
    found = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise FileNotFoundError("mosquitto is not installed: apt install mosquitto")
    return found


@cache
def version() -> tuple[int, int]:
    """Major and minor version of the installed Mosquitto."""
    shown = subprocess.run([program(), "-h"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"version (\d+)\.(\d+)", shown)
    return (int(match[1]), int(match[2])) if match else (2, 0)


class Closed(NamedTuple):
    """A closed network's side of a broker. `passwords` in mosquitto_passwd's format; `read_port`: for reading from outside."""

    trust: Path
    tls_port: int
    read_port: int | None
    passwords: str


class Broker:
    """The files of one node's broker, and a thread that has it take them when they changed."""

    def __init__(
        self,
        node: str,
        directory: Path,
        port: int,
        bind: str,
        notification: str,
        put: Callable[[Event], None],
        closed: Closed | None = None,
    ) -> None:
        self._node, self._port, self._bind, self._notification, self._put = node, port, bind, notification, put
        self._closed = closed
        self.directory = directory.absolute()
        self.config = self.directory / "mosquitto.conf"
        self._asked: SimpleQueue[str] = SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="broker", daemon=True)

    def open(self) -> None:
        self.write_main()
        if self._outdated():
            self.renew()
        if self._closed is not None:  # its access rights may have been written when it could not be told
            self._asked.put(RIGHTS)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._asked.put(RIGHTS)  # wakes it

    def write_main(self) -> None:
        """Write what Mosquitto is started with. Raises OSError."""
        (self.directory / "bridges").mkdir(mode=0o700, parents=True, exist_ok=True)
        user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() == 0 else None
        closed = self._write_closed(self._closed) if self._closed is not None else None
        durable.update(self.config, broker_conf.main(str(self.directory), self._port, self._bind, user, closed).encode())

    def _write_closed(self, closed: Closed) -> str:
        """Passwords and, unless the agent has told more of them, access rights. Returns the lines for the main file."""
        if durable.update(self.directory / "passwords", closed.passwords.encode()):
            self._asked.put(RIGHTS)
        if not (self.directory / "acl").exists():
            self.bar(())
        return broker_conf.siblings_port(str(self.directory), str(closed.trust), closed.tls_port, self._bind, closed.read_port)

    def bar(self, ids: Iterable[str]) -> str:
        """Let these nodes, and no others, neither read nor write; a running broker takes it now. Returns "" or what is wrong."""
        if self._closed is None:
            return ""
        try:
            text = broker_conf.access(ids, self._closed.read_port)
            # not to the disk: it is written again at each start, and haste is needed in a flood
            if durable.update(self.directory / "acl", text.encode(), to_disk=False):
                self._asked.put(RIGHTS)
        except OSError as error:
            return f"cannot write {error.filename}: {error.strerror}. Access rights stay as they are"
        return ""

    def link(self, links: Iterable[Bridge]) -> str:
        """Let these be all bridges; the running broker takes them up a moment later. Returns "" or what is wrong."""
        folder = self.directory / "bridges"
        trust = str(self._closed.trust) if self._closed is not None else None
        wanted = {f"{link.sibling}.conf": broker_conf.bridge(self._node, link, self._notification, trust) for link in links}
        try:
            gone = [path for path in folder.glob("*.conf") if path.name not in wanted]
            for path in gone:
                path.unlink()
            # each whole: a half-written include file makes Mosquitto 2.1 crash
            written = [name for name, text in wanted.items() if durable.update(folder / name, text.encode())]
        except OSError as error:
            return f"cannot write {error.filename}: {error.strerror}. Links stay as they are"
        if gone or written:
            self._asked.put(LINKS)
        return ""

    def renew(self) -> None:
        """Have the broker start afresh, a moment later."""
        self._asked.put(AFRESH)

    def _work(self) -> None:
        owed: set[str] = set()  # asked for, and not told to a broker of ours yet
        while True:
            owed.add(self._asked.get())
            if self._stop.wait(SETTLE_S if owed - {RIGHTS} else 0.0):
                return
            while not self._asked.empty():
                owed.add(self._asked.get())
            try:
                self._put(Warned("broker-files", self._take_up(owed)))
            except OSError as error:
                self._put(Warned("broker-files", f"the broker cannot be told of its new links: {error}"))

    def _take_up(self, owed: set[str]) -> str:
        """Have the running broker read its files again; then nothing is owed. Returns "" or what stands in the way."""
        pid = self.pid()
        if pid is None:
            return self._stranger()
        if not self.ours(pid):
            return f"the broker (pid {pid}) does not run with {self.config}: start it as 'mosquitto -c {self.config}'"
        # access rights and passwords are taken on SIGHUP by all versions
        reload = AFRESH not in owed and (LINKS not in owed or version() >= RELOADS)
        owed.clear()
        young_s = time.time() - (self.directory / "mosquitto.pid").stat().st_mtime
        if 0.0 <= young_s < BORN_S:
            time.sleep(BORN_S - young_s)
        os.kill(pid, signal.SIGHUP if reload else signal.SIGTERM)
        return ""

    def _stranger(self) -> str:
        """Without a pid file our broker is not up and reads its files when it starts; unless another one has its port."""
        time.sleep(SETTLE_S)
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if self.pid() is not None or probe.connect_ex(("127.0.0.1", self._port)) != 0:
                return ""
        return f"another broker has port {self._port}, so that no sibling can be linked. {WAY_OUT}"

    def _outdated(self) -> bool:
        """Did files change after the running broker read them? We may have been killed before it was told."""
        folder = self.directory / "bridges"
        try:
            read_ns = (self.directory / "mosquitto.pid").stat().st_mtime_ns
            sealed = self._closed.trust.glob("*.pem") if self._closed is not None else ()  # a renewed certificate
            return any(path.stat().st_mtime_ns > read_ns for path in (self.config, folder, *folder.glob("*.conf"), *sealed))
        except OSError:
            return False  # it does not run, and will read them when it starts

    def ours(self, pid: int) -> bool:
        """Was this process started with our configuration? Raises OSError when it has ended."""
        return str(self.config).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")

    def pid(self) -> int | None:
        """The running broker's process, by its pid file; None when that is stale or absent."""
        try:
            pid = int((self.directory / "mosquitto.pid").read_text())
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except (OSError, ValueError):
            return None
        return pid if name == "mosquitto" else None


class Process:
    """A Mosquitto that we start ourselves. One that ends in good order was asked to by its agent: it is started again."""

    def __init__(self, config: Path, put: Callable[[Event], None] = lambda event: None) -> None:
        self._config, self._put = config, put
        self._closing = False
        self._child: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Raises FileNotFoundError when Mosquitto is not installed."""
        self._child = self._start()
        threading.Thread(target=self._mind, args=(self._child,), name="mosquitto", daemon=True).start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with (self._config.parent / "mosquitto.log").open("ab") as log:
            command = [program(), "-c", str(self._config)]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _mind(self, child: "subprocess.Popen[bytes]") -> None:
        while (status := child.wait()) == 0 and not self._closing:
            child = self._child = self._start()
        if not self._closing:
            log = self._config.parent / "mosquitto.log"
            self._put(Warned("mosquitto", f"this node's Mosquitto ended (status {status}): see {log}. {WAY_OUT}"))

    @property
    def dead(self) -> bool:
        """Did it die by itself, or was it killed? What was asked to end is already on its way back."""
        return self._child is not None and self._child.poll() not in (None, 0)

    def close(self) -> None:
        """Twice is fine."""
        self._closing = True
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
