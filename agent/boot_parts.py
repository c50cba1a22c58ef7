"""What the boot partition's files mean for the system around the agent: its name, its Wi-Fi, the way in by SSH."""

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent import durable, wifi
from agent.config import Config, ConfigError

LARGEST = 256 * 1024  # bytes: nobody's settings are larger, and a Pi has little memory


@dataclass(frozen=True, slots=True)
class Places:
    """Where the boot partition, the writable partition, what lasts until the next boot and the root directory are."""

    boot: Path
    data: Path
    run: Path
    root: Path
    mount: str = "mount"  # the program that opens and closes the boot partition


@dataclass(slots=True)
class Told:
    """What grid-status.txt says: a line for each part, its problems below; and the problems alone, for the agent."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def say(self, line: str, *problems: str) -> None:
        self.problems += problems
        self.lines += [line, *(f"  ! {text}" for problem in problems for text in problem.splitlines())]


def read(path: Path) -> bytes:
    """Raises OSError."""
    if path.stat().st_size > LARGEST:
        raise OSError(0, "larger than any settings are", str(path))
    return path.read_bytes()


def names(config: Config, places: Places, found: Mapping[str, Path], told: Told) -> None:
    """The host name, and so name.local, is the node's id; the time zone. Raises OSError."""
    name, etc = config.node.id, places.root / "etc"
    kernel = places.root / "proc/sys/kernel/hostname"
    if kernel.exists():
        kernel.write_text(name)
    durable.update(etc / "hostname", f"{name}\n".encode(), 0o644)
    hosts = f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {name}\n"
    durable.update(etc / "hosts", hosts.encode(), 0o644)
    wanted = config.node.time_zone
    zone = wanted or "Etc/UTC"
    if (places.root / "usr/share/zoneinfo" / zone).is_file():
        durable.link(etc / "localtime", f"/usr/share/zoneinfo/{zone}")
    elif wanted:
        problem = f"grid.toml: node.time_zone: there is no {wanted!r}. Write one such as Europe/Berlin"
        told.say("Time zone: as before, or UTC", problem)


def join_wifi(config: Config, places: Places, found: Mapping[str, Path], told: Told) -> None:
    """The networks of wifi.toml for iwd and systemd-networkd, or the last good ones. Raises OSError."""
    settings, line, problems = _wifi(places, found.get("wifi.toml"))
    networks = settings.networks if settings is not None else ()
    told.say(f"Wi-Fi: {line}. Networks: {', '.join(network.ssid for network in networks) or 'none, only the cable'}", *problems)
    wanted, known = places.run / "wifi", places.root / "var/lib/iwd"
    texts = wifi.files(settings) if settings is not None and networks else {}
    for name, text in texts.items():
        private = name.startswith("var/")
        os.makedirs((places.root / name).parent, mode=0o700 if private else 0o755, exist_ok=True)
        durable.update(places.root / name, text.encode(), 0o600 if private else 0o644)
    for path in [*known.glob("*.psk"), *known.glob("*.open")]:
        if f"var/lib/iwd/{path.name}" not in texts:
            path.unlink()
    if networks:
        durable.update(wanted, b"", 0o644)  # iwd's unit starts only if it is there
    else:
        wanted.unlink(missing_ok=True)


def _wifi(places: Places, path: Path | None) -> tuple[wifi.Wifi | None, str, tuple[str, ...]]:
    """The networks in force, what happened to wifi.toml, and its problems."""
    kept, problems = places.data / "boot/wifi.toml", tuple[str, ...]()
    line = "there is no wifi.toml"
    if path is not None:
        try:
            data = read(path)
            settings = _parsed(data)
        except ConfigError as error:
            line, problems = "wifi.toml was not taken", error.problems
        except OSError as error:
            line, problems = "wifi.toml was not taken", (f"wifi.toml cannot be read: {error.strerror}",)
        else:
            try:
                os.makedirs(kept.parent, mode=0o755, exist_ok=True)
                durable.update(kept, data, 0o600)
            except OSError as error:
                problems = (f"wifi.toml cannot be kept on the card: {error.strerror}",)
            return settings, "wifi.toml was taken", problems
    with contextlib.suppress(OSError, ConfigError):  # none, or the card has lost it
        return _parsed(read(kept)), f"{line}. The last good one stays in force", problems
    return None, line, problems


def _parsed(data: bytes) -> wifi.Wifi:
    try:
        return wifi.parse(data.decode("utf-8-sig"), "wifi.toml")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise ConfigError(f"wifi.toml:{line}: file: not UTF-8. Save it again with the encoding UTF-8") from error


_KEY = re.compile(r"(sk-)?(ssh|ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]{40,}={0,3}( [^\x00-\x1f]*)?")


def open_ssh(config: Config, places: Places, found: Mapping[str, Path], told: Told) -> None:
    """A way in for the holders of keys, for as long as those lie on the boot partition. Raises OSError."""
    keys: list[str] = []
    problems: list[str] = []
    if (path := found.get("ssh.pub")) is not None:
        text = read(path).decode("utf-8-sig", "replace")
        if "PRIVATE KEY" in text:
            problems.append("ssh.pub holds a private key: delete it, make a new pair, and put the file that ends in .pub there")
        else:
            lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
            keys = [line for line in lines if _KEY.fullmatch(line)]
            if len(keys) < len(lines) or not lines:
                problems.append("ssh.pub: each line must be a public key, 'ssh-ed25519 AAAA... name'. Others are left out")
    allowed = places.run / "authorized_keys"
    if keys:
        durable.update(allowed, "".join(f"{key}\n" for key in keys).encode(), 0o644)
        told.say(f"SSH: on for {len(keys)} keys: ssh root@{config.node.id}.local", *problems)
    else:
        allowed.unlink(missing_ok=True)
        told.say("SSH: off; a public key in the file ssh.pub turns it on", *problems)
