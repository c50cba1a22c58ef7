"""The Mosquitto beside the agent: its configuration, one include file a sibling, and having it take them."""

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

from agent.events import Bridge, Event, Warned

SETTLE_S = 0.3  # joins that come together cost one restart
MAX_BYTES = 1024 * 1024  # a summary of 10,000 members fits; what is larger is cut off at the door, and the broker's log says so
RELOADS = (2, 1)  # from this version on a running broker takes bridges up on SIGHUP

WAY_OUT = "If it is the system's own: 'sudo systemctl disable --now mosquitto'; or choose another [mqtt] port"

MAIN = """\
# Written by the Grid agent at each start; edit grid.toml instead.
{user}{listeners}allow_anonymous true
persistence false
pid_file {directory}/mosquitto.pid
log_dest stderr
log_dest topic
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S
max_queued_messages 0
max_inflight_messages 200
max_packet_size {max_bytes}
set_tcp_nodelay true
include_dir {directory}/bridges
"""

BRIDGE = """\
# Written by the Grid agent: 'grid join' and 'grid leave' change it.
connection {me}-{sibling}
address {host}:{port}
local_clientid bridge-to-{sibling}
remote_clientid {me}
bridge_protocol_version mqttv50
cleansession true
restart_timeout 1 2
keepalive_interval 5
notifications true
notification_topic {notification}
notifications_local_only true
bridge_attempt_unsubscribe false
topic # out 1 grid/node/ $grid/in/{me}/
topic # in 1 $grid/in/{sibling}/ grid/node/
topic # out 1 grid/network/ $grid/in/{me}/network/
topic # in 1 $grid/in/{sibling}/network/ grid/network/
"""


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


def _write(path: Path, text: str) -> bool:
    """Replace a file whole, if its text differs: a half-written include file makes Mosquitto 2.1 crash."""
    if path.exists() and path.read_bytes() == text.encode():
        return False
    new = path.with_name(path.name + ".tmp")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    return True


class Broker:
    """The files of one node's broker, and a thread that has it take them when they changed."""

    def __init__(self, node: str, directory: Path, port: int, bind: str, notification: str, put: Callable[[Event], None]) -> None:
        self._node, self._port, self._bind, self._notification, self._put = node, port, bind, notification, put
        self.directory = directory.absolute()
        self.config = self.directory / "mosquitto.conf"
        self._afresh = False
        self._changed, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="broker", daemon=True)

    def open(self) -> None:
        self.write_main()
        if self._outdated():
            self.renew()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._changed.set()

    def write_main(self) -> None:
        """Write what Mosquitto is started with. Raises OSError."""
        (self.directory / "bridges").mkdir(mode=0o700, parents=True, exist_ok=True)
        # started by root, Mosquitto would become a user who cannot write the pid file; it stays who the agent is
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name}\n" if os.geteuid() == 0 else ""
        local = [] if self._bind in ("0.0.0.0", "::", "127.0.0.1", "localhost") else ["127.0.0.1"]
        listeners = "".join(f"listener {self._port} {host}\n" for host in [*local, self._bind])
        _write(self.config, MAIN.format(user=user, listeners=listeners, directory=self.directory, max_bytes=MAX_BYTES))

    def link(self, links: Iterable[Bridge]) -> str:
        """Let these be all bridges; the running broker takes them up a moment later. Returns "" or what is wrong."""
        folder = self.directory / "bridges"
        wanted = {f"{link.sibling}.conf": self._bridge(link) for link in links}
        try:
            gone = [path for path in folder.glob("*.conf") if path.name not in wanted]
            for path in gone:
                path.unlink()
            written = [name for name, text in wanted.items() if _write(folder / name, text)]
        except OSError as error:
            return f"cannot write {error.filename}: {error.strerror}. Links stay as they are"
        if gone or written:
            self._changed.set()
        return ""

    def renew(self) -> None:
        """Have the broker start afresh, a moment later."""
        self._afresh = True
        self._changed.set()

    def _bridge(self, link: Bridge) -> str:
        notification = self._notification + link.sibling
        return BRIDGE.format(me=self._node, sibling=link.sibling, host=link.host, port=link.port, notification=notification)

    def _work(self) -> None:
        while True:
            self._changed.wait()
            if self._stop.wait(SETTLE_S):
                return
            self._changed.clear()
            try:
                self._put(Warned("broker-files", self._take_up()))
            except OSError as error:
                self._put(Warned("broker-files", f"the broker cannot be told of its new links: {error}"))

    def _take_up(self) -> str:
        """Have the running broker read its files again. Returns "" or what stands in the way."""
        pid = self.pid()
        if pid is None:
            return self._stranger()
        if not self.ours(pid):
            return f"the broker (pid {pid}) does not run with {self.config}: start it as 'mosquitto -c {self.config}'"
        reload = version() >= RELOADS and not self._afresh
        self._afresh = False
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
            return any(path.stat().st_mtime_ns > read_ns for path in (self.config, folder, *folder.glob("*.conf")))
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
