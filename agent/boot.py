"""What the image does before its network and its broker are there: the boot partition's files become this node's settings.

Nothing here stops a boot: what cannot be used leaves the last good settings in force, and is told in grid-status.txt on the
boot partition and, through the agent, as grid/alert/config.
"""

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from agent import card, durable, root
from agent.boot_parts import Places, Told, join_wifi, names, open_ssh, read
from agent.boot_trust import trust
from agent.config import Config, ConfigError
from agent.version import VERSION

STATUS = "grid-status.txt"
STATE = Path("/var/lib/grid")  # what outlives a boot, beside the settings
SHIPPED = "usr/share/grid/grid.toml"  # as the image has it on its boot partition
MOST = 20  # problems shown as an alert

DEFAULT = """\
# No settings were taken from the boot partition yet: see grid-status.txt there.
[node]
id = "{id}"
rated_w = 17250

[network]
closed = true
"""


def boot(places: Places) -> Told:
    """All of it, once a boot; may be done again. Raises OSError only if neither /data nor memory takes settings."""
    told = Told()
    found, renamed = _found(places.boot)
    os.makedirs(places.run, mode=0o755, exist_ok=True)
    config = _settings(places, found, renamed, told)
    told.lines.insert(0, f"Node: {config.node.id}, {config.node.id}.local in the local network")
    for part in (names, join_wifi, open_ssh, trust):
        try:
            part(config, places, found, told)
        except OSError as error:
            told.say("Not all could be done", f"{error.filename or 'this system'}: {error.strerror or error}")
    _tell(places, told)
    return told


def _found(folder: Path) -> tuple[Mapping[str, Path], list[str]]:
    """The boot partition's files by their names in small letters, as FAT tells them apart; and what is named wrongly."""
    try:
        found = {path.name.casefold(): path for path in sorted(folder.iterdir()) if path.is_file()}
    except OSError as error:
        return {}, [f"the boot partition cannot be read: {error.strerror}"]
    problems = []
    for wanted in ("grid.toml", "wifi.toml", "ssh.pub"):
        stem, _, suffix = wanted.partition(".")
        alike = re.compile(rf"{stem}( ?\(\d+\)| - copy| copy)?\.({suffix}|txt|{suffix}\.[a-z]+)")
        for name, path in found.items():
            if name != wanted and alike.fullmatch(name):
                way_out = f"Give it the name {wanted}; Windows hides endings such as .txt until it is told to show them"
                problems.append(f"{path.name} is not read. {way_out}")
    return found, problems


# grid.toml


def _settings(places: Places, found: Mapping[str, Path], renamed: list[str], told: Told) -> Config:
    """The configuration in force from now on: the boot partition's, else the last good one, else one that runs anyhow."""
    line, problems, fresh = _taken(places, found)
    if fresh is not None:
        told.say(f"Settings: {line}", *renamed, *problems)
        return fresh
    link = places.data / "boot/config"
    try:
        config = root.load(link / "grid.toml")
    except ConfigError:
        pass
    else:
        if link.resolve().name != "config-default":
            told.say(f"Settings: {line}. The last good ones stay in force", *renamed, *problems)
            _lead(places, link)
            return config
    told.say(f"Settings: {line}. Until there are good ones, this node runs without meters", *renamed, *problems)
    return _put(places, "default", {"grid.toml": DEFAULT.format(id=f"node-{_serial(places.root)}").encode()})


def _taken(places: Places, found: Mapping[str, Path]) -> tuple[str, tuple[str, ...], Config | None]:
    """What happened to the boot partition's file, its problems, and what it says if that is in force now."""
    path = found.get("grid.toml")
    if path is None:
        return "there is no grid.toml", ("grid.toml is not on the boot partition",), None
    try:
        data = read(path)
        if _same_text(data, places.root / SHIPPED):
            return "grid.toml was not edited yet", ("grid.toml: set at least id, rated_w and the meters",), None
        config = root.load(path)
        _check(config, path)
        maps = {name: read(path.parent / name) for name in _maps(config, path.parent)}
    except ConfigError as error:
        plain = tuple(problem.replace(f"{path.parent}/", "") for problem in error.problems)
        return "grid.toml was not taken", plain, None
    except OSError as error:
        return "grid.toml was not taken", (f"{Path(error.filename or path).name} cannot be read: {error.strerror}",), None
    texts = {**maps, "grid.toml": data}
    digest = blake2b(digest_size=8)
    for name, text in sorted(texts.items()):
        digest.update(f"{name}\0{len(text)}\0".encode() + text)
    try:
        config = _put(places, digest.hexdigest(), texts)
    except ConfigError as error:  # a failing card: read twice, it was not the same
        return "grid.toml could not be copied", error.problems, None
    return "grid.toml was taken", (), config


def _same_text(data: bytes, other: Path) -> bool:
    try:
        return data.removeprefix(b"\xef\xbb\xbf").split() == other.read_bytes().split()
    except OSError:
        return False


def _check(config: Config, path: Path) -> None:
    """What holds on the image alone."""
    directory = config.state.dir
    if not directory.is_relative_to(STATE) or directory == STATE or ".." in directory.parts:
        raise ConfigError(f"{path}: state.dir: on the image only what is below {STATE} can be written. Leave it out")


def _maps(config: Config, folder: Path) -> list[str]:
    """The names of the meters' maps that lie beside grid.toml, or below."""
    models = (Path(meter.model) for meter in config.meters if meter.model.startswith(f"{folder}/"))
    return sorted({str(model.relative_to(folder)) for model in models if ".." not in model.parts})


def _put(places: Places, name: str, texts: Mapping[str, bytes]) -> Config:
    """Have these files in force, all of them or those before; in memory if the card takes none.

    Raises ConfigError when they are not what they were, OSError when even memory cannot take them.
    """
    try:
        home = places.data / "boot"
        config = _put_in(home, name, texts)
    except (OSError, ConfigError):  # full, read-only, or it gives back something else
        home = places.run
        config = _put_in(home, name, texts)
    _lead(places, home / "config")
    return config


def _lead(places: Places, link: Path) -> None:
    os.makedirs(places.root / "etc", mode=0o755, exist_ok=True)
    durable.link(places.root / "etc/grid", str(link))


def _put_in(home: Path, name: str, texts: Mapping[str, bytes]) -> Config:
    folder, link = home / f"config-{name}", home / "config"
    if not (link.is_symlink() and os.readlink(link) == folder.name and _good(link)):
        for file, data in texts.items():
            os.makedirs((folder / file).parent, mode=0o755, exist_ok=True)
            durable.update(folder / file, data, 0o644)
        root.load(folder / "grid.toml")
        durable.link(link, folder.name)
    for other in home.glob("config-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return root.load(link / "grid.toml")


def _good(link: Path) -> bool:
    """Is what was taken before still there, or what somebody made of it since then? A card can lose it."""
    try:
        root.load(link / "grid.toml")
    except ConfigError:
        return False
    return True


def _serial(base: Path) -> str:
    """Four hexadecimal digits of this machine, from the Pi's serial number, a network card's address, or at random."""
    addresses = sorted((base / "sys/class/net").glob("[!l]*/address"))  # not lo's
    for path in (base / "proc/device-tree/serial-number", *addresses):
        try:
            digits = re.sub("[^0-9a-f]", "", path.read_text(errors="replace").lower())
        except OSError:
            continue
        if digits.strip("0"):
            return digits[-4:].rjust(4, "0")
    return secrets.token_hex(2)


def _tell(places: Places, told: Told) -> None:
    """For who has the card in another machine, written only when it says something new; and for the agent."""
    lines = [f"Grid {VERSION}: what became of this card's files at its last start. Changes here do nothing.", "", *told.lines]
    text = "".join(f"{line}\r\n" for line in lines).encode()  # every Notepad shows it in lines
    status = places.boot / STATUS
    try:
        if not status.exists() or status.read_bytes() != text:
            with card.writable(places.boot, places.mount):
                durable.update(status, text)
    except OSError as error:
        told.problems.append(f"{STATUS} cannot be written: {error.strerror or error}")
    first = ["From the boot partition, at the last start:"] if told.problems else []
    problems = [*first, *told.problems[:MOST], *(["..."] if len(told.problems) > MOST else [])]
    durable.update(places.run / "problems", "".join(f"{problem}\n" for problem in problems).encode(), 0o644)
