"""The Mosquitto beside the agent: its configuration, one include file a sibling, and having it take them."""

import base64
import hashlib
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
from typing import NamedTuple

from agent.events import Bridge, Event, Warned

BORN_S = 0.3  # Mosquitto writes its pid file a moment before it minds signals, which until then end it (seen with 2.0.11)
SETTLE_S = 0.3  # joins that come together cost one restart
MAX_BYTES = 1024 * 1024  # a summary of 10,000 members fits; what is larger is cut off at the door, and the broker's log says so
AGENT, PERSON = "_agent", "_person"  # the broker's password users: no id of a node has this form
ROUNDS = 101
MAX_LINKS = 1000  # at the siblings' port, begun ones too: each costs Mosquitto about 32 KB with TLS, and goes after a minute
RELOADS = (2, 1)  # from this version on a running broker takes bridges up on SIGHUP

WAY_OUT = "If it is the system's own: 'sudo systemctl disable --now mosquitto'; or choose another [mqtt] port"

MAIN = """\
# Written by the Grid agent at each start; edit grid.toml instead.
{user}{listeners}{closed}allow_anonymous true
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

# Siblings come in by TLS and are called what their certificate says: %u is that id, and no client id can be another's. Whoever
# comes without a certificate reads; the password users are called as no node can be.
CLOSED = """\
listener {tls_port} {bind}
cafile {trust}/ca.pem
certfile {trust}/node.pem
keyfile {trust}/node.key
require_certificate true
use_identity_as_username true
use_username_as_clientid true
tls_version tlsv1.2
max_connections {most}
{reading}password_file {directory}/passwords
acl_file {directory}/acl
"""

# man 5 mosquitto.conf, acl_file: lines before the first user are for clients without a name
ACL = """\
# Written by the Grid agent.
topic read grid/#
topic read $SYS/#
topic deny $SYS/broker/log/#
{commands}
user {agent}
topic readwrite #
topic readwrite $grid/#
topic read $SYS/#

user {person}
topic read grid/#
topic read $SYS/#
topic deny $SYS/broker/log/#
topic write $grid/set/+/+

{denied}pattern write $grid/in/%u/#
pattern read grid/node/#
pattern read grid/network/#
"""

TLS = """\
bridge_cafile {trust}/ca.pem
bridge_certfile {trust}/node.pem
bridge_keyfile {trust}/node.key
bridge_insecure true
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
{tls}topic # out 1 grid/node/ $grid/in/{me}/
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


class Closed(NamedTuple):
    """A closed network's side of a broker. `passwords` in mosquitto_passwd's format; `read_port`: for reading from outside."""

    trust: Path
    tls_port: int
    read_port: int | None
    passwords: str


def password_line(user: str, password: str) -> str:
    """As mosquitto_passwd -H sha512-pbkdf2 writes it: $7$, rounds, salt, hash. Few rounds, for what is 256 random bits.

    The salt comes from the password, so that the file stays as it is from start to start.
    """
    salt = hashlib.blake2b(password.encode(), digest_size=12, person=b"grid-salt").digest()
    hash_ = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ROUNDS)
    return f"{user}:$7${ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(hash_).decode()}\n"


def _write(path: Path, text: str, sync: bool = True) -> bool:
    """Replace a file whole, if its text differs: a half-written include file makes Mosquitto 2.1 crash."""
    if path.exists() and path.read_bytes() == text.encode():
        return False
    new = path.with_name(path.name + ".tmp")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    os.replace(new, path)
    return True


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
        self._afresh = self._links = False
        self._changed, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="broker", daemon=True)

    def open(self) -> None:
        self.write_main()
        if self._outdated():
            self.renew()
        if self._closed is not None:  # its access rights may have been written when it could not be told
            self._changed.set()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._changed.set()

    def write_main(self) -> None:
        """Write what Mosquitto is started with. Raises OSError."""
        (self.directory / "bridges").mkdir(mode=0o700, parents=True, exist_ok=True)
        # started by root, Mosquitto would become a user who cannot write the pid file; it stays who the agent is
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name}\n" if os.geteuid() == 0 else ""
        here = self._closed is not None or self._bind in ("127.0.0.1", "localhost")
        hosts = ["127.0.0.1"] if here else [self._bind] if self._bind in ("0.0.0.0", "::") else ["127.0.0.1", self._bind]
        listeners = "".join(f"listener {self._port} {host}\n" for host in hosts)
        closed = self._write_closed(self._closed) if self._closed is not None else ""
        text = MAIN.format(user=user, listeners=listeners, closed=closed, directory=self.directory, max_bytes=MAX_BYTES)
        _write(self.config, text)

    def _write_closed(self, closed: Closed) -> str:
        """Passwords and, unless the agent has told more of them, access rights. Returns the lines for the main file."""
        if _write(self.directory / "passwords", closed.passwords):
            self._changed.set()
        if not (self.directory / "acl").exists():
            self.bar(())
        reading = f"listener {closed.read_port} {self._bind}\n" if closed.read_port is not None else ""
        return CLOSED.format(
            most=MAX_LINKS, tls_port=closed.tls_port, bind=self._bind, trust=closed.trust, reading=reading, directory=self.directory
        )

    def bar(self, ids: Iterable[str]) -> str:
        """Let these nodes, and no others, neither read nor write; a running broker takes it now. Returns "" or what is wrong."""
        if self._closed is None:
            return ""
        # with a port for reading from outside, who comes without a name may be anywhere: then commands need a name
        commands = "topic write $grid/set/+/+\n" if self._closed.read_port is None else ""
        denied = "".join(f"user {id_}\ntopic deny #\ntopic deny $grid/#\n\n" for id_ in sorted(ids))
        try:
            text = ACL.format(commands=commands, agent=AGENT, person=PERSON, denied=denied)
            if _write(self.directory / "acl", text, sync=False):  # written again at each start, and haste is needed in a flood
                self._changed.set()
        except OSError as error:
            return f"cannot write {error.filename}: {error.strerror}. Access rights stay as they are"
        return ""

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
            self._links = True
            self._changed.set()
        return ""

    def renew(self) -> None:
        """Have the broker start afresh, a moment later."""
        self._afresh = True
        self._changed.set()

    def _bridge(self, link: Bridge) -> str:
        notification = self._notification + link.sibling
        tls = TLS.format(trust=self._closed.trust) if self._closed is not None else ""
        return BRIDGE.format(
            me=self._node, sibling=link.sibling, host=link.host, port=link.port, notification=notification, tls=tls
        )

    def _work(self) -> None:
        while True:
            self._changed.wait()
            if self._stop.wait(SETTLE_S if self._links or self._afresh else 0.0):
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
        # access rights and passwords are taken on SIGHUP by all versions
        reload = not self._afresh and (not self._links or version() >= RELOADS)
        self._afresh = self._links = False
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
