"""grid doctor: everything that must be right for this node, looked at once, each fault with the line that mends it."""

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from agent import broker, clock, closed, control, poll, radio, root, runtime
from agent.address import to_address
from agent.certs import RENEW_S
from agent.cli.main import config_option, json_option
from agent.cli.words import PROBLEM, find, say, say_json
from agent.config import Config, ConfigError
from agent.seal import Member, SealError
from agent.wire import DAY_S

FREE_BYTES = 50 * 1024 * 1024
FEW_S = 2.0
CLOCK_FIX = "sudo timedatectl set-ntp true   # needs a way to a time server"
WIFI = Path("/run/grid-boot/wifi")
HOT_VOLTS = Path("/sys/class/hwmon")


class Finding(NamedTuple):
    """One thing looked at. `ok` is None where it cannot be known here; `fix` is the line that mends it."""

    name: str
    ok: bool | None
    text: str
    fix: str = ""


def look(path: Path | None) -> list[Finding]:
    """All findings, in the order in which one would mend them; the whole takes less than 10 s."""
    where = find(path)
    try:
        config = root.load(where)
    except ConfigError as error:
        return [Finding("config", False, problem, f"edit {where}, then: grid check {where}") for problem in error.problems]
    findings = [Finding("config", True, f"{where} is fine")]
    agent = _agent(config)
    for part in (_ports, _meters, _broker, _wifi, _clock, _disk, _power, _mode):
        findings += part(config, agent)
    if agent is None:
        findings.append(Finding("agent", False, "the agent is not running", f"grid run -c {where}"))
    else:
        findings.append(Finding("agent", True, f"it runs and hears {agent['summary']['heard']} of {agent['summary']['nodes']}"))
        findings += _siblings(config, agent)
        findings += _alerts(agent)
    return findings


Agent = dict[str, Any] | None
Part = Callable[[Config, Agent], Iterator[Finding]]


def _agent(config: Config) -> Agent:
    try:
        body: dict[str, Any] = json.loads(control.ask(config.state.dir, "status", wait_s=FEW_S))
    except control.Unreachable:
        return None
    return body


def _ports(config: Config, agent: Agent) -> Iterator[Finding]:
    for port in sorted({meter.port for meter in config.meters if meter.port is not None}):
        name = f"port {port}"
        if not Path(port).exists():
            yield Finding(name, False, "there is no such device", "plug the adapter in and look: ls /dev/serial/by-id /dev/ttyUSB*")
        elif not os.access(port, os.R_OK | os.W_OK):
            user = os.environ.get("USER", "$USER")
            yield Finding(name, False, "this user may not use it", f"sudo usermod -aG dialout {user}   # then log in again")
        else:
            yield Finding(name, True, "it is there and may be used")


def _meters(config: Config, agent: Agent) -> Iterator[Finding]:
    if not config.meters:
        yield Finding("meters", False, "none is configured", f"add a [[meter]] to {config.path}; models: grid meter models")
        return
    if agent is not None:
        rows = [(meter["name"], meter["quality"], meter["why"], meter.get("w")) for meter in agent["meters"]]
    else:
        looked = poll.look(config.meters)
        rows = [(name, reading.quality, reading.why, reading.values.get("w")) for name, reading in looked]
    for name, quality, why, watts in rows:
        good = quality == "good"
        first = "" if quality == "suspect" else "check power and wiring, then: "
        fix = f"{first}grid meter read {name}{' --raw' if quality == 'suspect' else ''} -c {config.path}"
        yield Finding(f"meter {name}", good, f"it reads {watts} W" if good else f"{quality}: {why}", "" if good else fix)


def _broker(config: Config, agent: Agent) -> Iterator[Finding]:
    try:
        broker.program()
    except FileNotFoundError:
        yield Finding("broker", False, "Mosquitto is not installed", "sudo apt install mosquitto mosquitto-clients")
        return
    major, minor = broker.version()
    address = f"{config.mqtt.host}:{config.mqtt.port}"
    if not _answers(config.mqtt.host, config.mqtt.port):
        fix = f"grid run --broker -c {config.path}   # or: mosquitto -c {config.state.dir / 'mosquitto.conf'}"
        yield Finding("broker", False, f"nothing answers at {address}", fix)
        return
    ours = root.broker(config, runtime.found(config.state.dir), lambda event: None).pid() is not None or config.mqtt.shared
    text = f"Mosquitto {major}.{minor} answers at {address}"
    if ours:
        yield Finding("broker", True, text)
    else:
        yield Finding("broker", False, f"the broker at {address} does not run with this node's files", broker.WAY_OUT)


def _wifi(config: Config, agent: Agent) -> Iterator[Finding]:
    """On the image, where wifi.toml names a network."""
    if WIFI.exists():
        parts = [problem.partition(". ") for problem in radio.why_not()]
        text = "; ".join(what for what, _, _ in parts) or "a network is joined and gave an address"
        yield Finding("Wi-Fi", not parts, text, "; ".join(dict.fromkeys(fix for _, _, fix in parts)))


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), FEW_S).close()
    except OSError:
        return False
    return True


def _clock(config: Config, agent: Agent) -> Iterator[Finding]:
    """Of slot edges and dates only: nothing is ordered by the clock."""
    fix = CLOCK_FIX
    now = time.gmtime()
    if now.tm_year < 2024:
        yield Finding("clock", False, f"it says {time.strftime('%Y-%m-%d', now)}: it was never set", fix)
        return
    match clock.synchronised():
        case True:
            yield Finding("clock", True, "it is synchronised")
        case False:
            yield Finding("clock", False, "it is not synchronised: slots will be flagged, net and live price are not touched", fix)
        case None:
            yield Finding("clock", None, "whether it is synchronised cannot be asked here")


def _disk(config: Config, agent: Agent) -> Iterator[Finding]:
    folder = config.state.dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        text = f"{folder} is mounted read-only; a dying card looks like that"
        yield Finding("disk", False, text, "sudo dmesg | grep -i -E 'mmc|ext4'")
    elif not os.access(folder, os.W_OK):
        yield Finding("disk", False, f"{folder} cannot be written by this user", f"sudo chown $USER {config.state.dir}")
    elif free < FREE_BYTES:
        yield Finding(
            "disk", False, f"only {free // 2**20} MB free at {folder}", "sudo apt clean; sudo journalctl --vacuum-size=20M"
        )
    else:
        yield Finding("disk", True, f"{free // 2**20} MB free at {folder}")


def _power(config: Config, agent: Agent) -> Iterator[Finding]:
    """The Pi's own low-voltage alarm (kernel driver raspberrypi-hwmon)."""
    for chip in sorted(HOT_VOLTS.glob("hwmon*")) if HOT_VOLTS.exists() else []:
        alarm = chip / "in0_lcrit_alarm"
        if (chip / "name").read_text().strip() == "rpi_volt" and alarm.exists():
            low = alarm.read_text().strip() == "1"
            fix = "use the Pi's own power supply and a short, thick cable" if low else ""
            yield Finding("power", not low, "under-voltage was seen" if low else "no under-voltage", fix)
            return
    yield Finding("power", None, "this machine does not report under-voltage")


def _mode(config: Config, agent: Agent) -> Iterator[Finding]:
    try:
        member = closed.is_closed(config)
    except PermissionError as error:
        yield Finding("mode", None, f"whether it is open or closed this user may not see: {error}", "sudo grid doctor")
        return
    except (OSError, ValueError) as error:
        yield Finding("mode", False, f"the keys of this node cannot be read: {error}", "grid join --bundle FILE   # of: grid admit")
        return
    if member:
        yield from _closed(config)
    elif config.network.closed:
        yield Finding(
            "mode", None, "closed, and without a bundle: it talks to nobody", "grid join --bundle FILE   # of: grid admit"
        )
    elif config.mqtt.bind in ("127.0.0.1", "::1", "localhost"):
        yield Finding("mode", None, "OPEN, on this machine only: siblings elsewhere cannot reach this broker")
    else:
        yield Finding(
            "mode", None, f"OPEN: whoever reaches {config.mqtt.bind}:{config.mqtt.port} can join and write. Trusted networks only"
        )


def _closed(config: Config) -> Iterator[Finding]:
    """Certificate, modes, clock."""
    trust, mqtt = config.state.dir / closed.TRUST, config.mqtt
    try:
        member = Member.load(trust)
    except SealError as error:
        yield Finding("mode", False, f"closed, but {error}", "grid join --bundle FILE   # of: grid admit")
        return
    if member is None or member.id != config.node.id:
        who = member.id if member is not None else "nobody"
        yield Finding(
            "mode", False, f"its certificate is {who}'s, and its id {config.node.id}", "grid join --bundle FILE   # of: grid admit"
        )
        return
    yield Finding("mode", True, f"closed: a member of {member.network!r}; siblings come in by TLS at {mqtt.bind}:{mqtt.tls_port}")
    left_s = member.to_unix - time.time()
    ends = time.strftime("%Y-%m-%d", time.gmtime(member.to_unix))
    fix = "grid admit --renew   # on the authority's node; or a new bundle: grid admit"
    if left_s < 0 and clock.synchronised() is False:
        yield Finding("certificate", False, f"it ended on {ends} by this clock, which is not known to be right", CLOCK_FIX)
    elif left_s < 0:
        yield Finding("certificate", False, f"it ended on {ends}", fix)
    else:
        soon = left_s < RENEW_S / 2
        yield Finding("certificate", not soon, f"it ends on {ends}, in {int(left_s / DAY_S)} days", fix if soon else "")
    place = runtime.found(config.state.dir)
    open_ = [
        path
        for path in (trust, *trust.rglob("*"), place / "acl", place / "passwords")
        if path.exists() and path.stat().st_mode & 0o077
    ]
    if open_:
        yield Finding("modes", False, f"others may read {', '.join(map(str, open_))}", f"chmod -R go= {' '.join(map(str, open_))}")
    else:
        yield Finding("modes", True, "keys and secrets are for this node's user alone")
    if mqtt.read_port is not None:
        yield Finding("reading", None, f"whoever reaches {mqtt.bind}:{mqtt.read_port} reads what this house uses")


def _siblings(config: Config, agent: dict[str, Any]) -> Iterator[Finding]:
    if config.mqtt.shared:
        return
    if not agent["siblings"]:
        yield Finding("siblings", None, "none: this node is alone. Join one: grid join HOST:PORT")
    for id_, edge in agent["siblings"].items():
        name, theirs = f"sibling {id_}", agent["nodes"].get(id_, {}).get("siblings", [])
        where = edge["address"] or "an address not known"
        if edge["link"] != "linked":
            address = to_address(edge["address"]) if edge["address"] else None
            reached = address is not None and _answers(address.host, address.port)
            fix = (
                "its agent may be down: on it run 'grid doctor'"
                if reached
                else f"is it on, and {where} reachable from here? ping it"
            )
            yield Finding(name, False, f"the link is {edge['link']} ({where})", fix)
        elif config.node.id not in theirs:
            yield Finding(name, False, "it does not know us as its sibling yet", f"grid join {where}   # once more")
        else:
            yield Finding(name, True, f"linked, both ways ({where})")


def _alerts(agent: dict[str, Any]) -> Iterator[Finding]:
    tariff = [alert for alert in agent["alerts"] if alert["id"] == "tariff"]
    if not tariff:
        yield Finding("tariff", True, f"agreed: {agent['summary']['currency']}, rule {agent['summary']['rule']}")
    for alert in agent["alerts"]:
        fix = "write the network's [tariff] into the file, or leave it out" if alert["id"] == "tariff" else "see the text"
        yield Finding(f"alert {alert['id']}", False, alert["text"], fix)


@click.command()
@config_option
@json_option
def doctor(path: Path | None, as_json: bool) -> None:
    """Look at everything this node needs; each fault comes with the line that mends it. Exit code 1 when there is one."""
    findings = look(path)
    if as_json:
        say_json([finding._asdict() for finding in findings])
    else:
        for name, ok, text, fix in findings:
            mark = {True: "ok ", False: "BAD", None: "?  "}[ok]
            say(f"{mark} {name}: {text}")
            if fix:
                say(f"      {fix}")
    sys.exit(PROBLEM if any(finding.ok is False for finding in findings) else 0)
