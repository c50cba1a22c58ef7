"""A node of the image becomes a member of its closed network, or makes one, without a person at a terminal."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from agent import authority, bundle, card, durable, private
from agent.address import Address
from agent.boot_parts import Places, Told, read
from agent.bundle import BundleError
from agent.config import Config
from agent.seal import Member, SealError
from agent.store import File

# What became of the bundle for an id in [network] admit, in /data/boot/admit/ID. Without a word, `grid admit` made the first.
BEGUN, LEFT, AGAIN = "begun", "left", "again"
HINT = "To have one made again, take its id out of admit for one start"


def trust(config: Config, places: Places, found: Mapping[str, Path], told: Told) -> None:
    """Take this node's bundle from the boot partition; make the network, and bundles for others. Raises OSError."""
    state = places.root / config.state.dir.relative_to("/")
    folder, problems = state / "trust", list[str]()
    with private.as_owner(state):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with private.as_owner(state):
            private.finish(folder)  # what a power cut left half done
        problems += _bundles(config, places, folder, found)
        if config.network.create is not None:
            with private.as_owner(state):
                _create(config.network.create, config.node.id, folder)
        with private.as_owner(state):
            member = Member.load(folder)
    except (SealError, ValueError) as error:
        told.say("Network: closed, but not as grid.toml or a bundle has it", *problems, str(error))
        return
    if member is not None:
        told.say(f"Network: member of {member.network!r}, which is closed", *problems)
    elif config.network.closed:
        way_out = f"Put {config.node.id}.bundle here, from 'grid admit {config.node.id}' or the first node's card"
        told.say("Network: closed, and this node is in none yet: it talks to nobody", *problems, way_out)
    else:
        told.say("Network: open, whoever reaches this node can read and write", *problems)
    if config.network.create is not None:
        _admit(config, places, state, told)


def _create(name: str, own_id: str, folder: Path) -> None:
    """Raises SealError, OSError."""
    if not authority.has_authority(folder):
        authority.create_headless(folder, name, own_id)
        return
    member = Member.load(folder)
    if member is not None and member.network != name:
        way_out = f'Write create = "{member.network}"'
        raise SealError(f"network.create: this node made the network {member.network!r}, whose name stays. {way_out}")


def _bundles(config: Config, places: Places, folder: Path, found: Mapping[str, Path]) -> Iterator[str]:
    """Install ours, and take it off the boot partition, which any computer shows. Yields what is wrong with others."""
    with private.as_owner(folder.parent):
        first = authority.has_authority(folder)
    for name, path in found.items():
        if name.endswith(".bundle.new"):  # half a bundle, with a whole key
            with card.writable(places.boot, places.mount):
                path.unlink()
        elif ".bundle." in name:
            yield f"{path.name} is not read. Its name must end in .bundle; Windows hides endings such as .txt"
        if not name.endswith(".bundle"):
            continue
        try:
            data = read(path)
        except OSError as error:
            yield f"{path.name} cannot be read: {error.strerror or error}"
            continue
        if name != f"{config.node.id}.bundle" and (first or config.network.create is not None):
            continue  # for others, from here
        try:
            with private.as_owner(folder.parent):
                authority.install(folder, data, config.node.id, time.time(), False)
        except (SealError, BundleError) as error:
            yield f"{path.name}: {error}"
            continue
        try:
            with card.writable(places.boot, places.mount):
                path.unlink()
        except OSError as error:
            yield f"{path.name} was taken and cannot be removed ({error.strerror or error}). Delete it: it is this node's key"


def _admit(config: Config, places: Places, state: Path, told: Told) -> None:
    """Leave a bundle for each node that is to be admitted: once, until its node is there. Raises OSError."""
    marks, problems = places.data / "boot/admit", list[str]()
    os.makedirs(marks, mode=0o700, exist_ok=True)
    for mark in marks.iterdir():
        if mark.name not in config.network.admit and mark.suffix != ".new":
            durable.update(mark, AGAIN.encode(), 0o600)
    met, left = _met(state), list[str]()
    with private.as_owner(state):
        before = authority.admitted(state / "trust")
    for id_ in config.network.admit:
        path, mark = places.boot / f"{id_}.bundle", marks / id_
        word = mark.read_text(errors="replace") if mark.exists() else ""
        if word not in (BEGUN, LEFT, AGAIN):  # none, or the card has lost it
            word = LEFT if id_ in before else ""
        try:
            if word != LEFT:
                durable.update(mark, BEGUN.encode(), 0o600)
                if not _whole(path, id_, state / "trust", word):
                    with private.as_owner(state):
                        text = authority.make_bundle(state / "trust", id_, (_address(config),))
                    with card.writable(places.boot, places.mount):
                        durable.update(path, text.encode())
                durable.update(mark, LEFT.encode(), 0o600)
            if id_ in met and path.exists():
                with card.writable(places.boot, places.mount):
                    path.unlink()
        except (SealError, ValueError) as error:
            problems.append(f"network.admit: {id_}: {error}")
        except OSError as error:
            problems.append(f"{path.name} cannot be written: {error.strerror or error}")
        if path.exists():
            left.append(path.name)
    if left:
        told.say(f"Bundles that lie here for other nodes: {', '.join(left)}. Move each onto its node's card. {HINT}", *problems)
        told.lines.append("  Whoever reads this card can take them and be those nodes; each goes from here once its node was seen")
    elif config.network.admit:
        told.say(f"Admitted: {', '.join(config.network.admit)}. {HINT}", *problems)


def _whole(path: Path, id_: str, folder: Path, word: str) -> bool:
    """Was the power cut between writing this bundle and remembering that?"""
    if word != BEGUN or not path.exists():
        return False
    try:
        there = bundle.read(read(path))
        member = Member.load(folder)
    except (OSError, BundleError, SealError):
        return False
    return there.id == id_ and member is not None and there.ca == member.ca


def _address(config: Config) -> str:
    host = config.node.address.host if config.node.address is not None else f"{config.node.id}.local"
    return str(Address(host, config.mqtt.tls_port))


def _met(state: Path) -> set[str]:
    """The ids whose records this node's agent has kept: in a closed network, those that hold the keys of their bundles."""
    try:
        file = msgspec.json.decode((state / "records.json").read_bytes(), type=File)
        rows = msgspec.json.decode(file.data, type=list[tuple[str, str]])
    except (OSError, ValueError):
        return set()
    return {words[2] for topic, _ in rows if len(words := topic.split("/")) > 3 and words[:2] == ["grid", "node"]}
