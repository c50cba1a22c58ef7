"""A closed network on this node's disk: its member's seal for the core, and the secrets that it makes for its own broker."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent import broker, private
from agent.bus import Login
from agent.certs import Certified
from agent.trust import Trust

if TYPE_CHECKING:
    from agent.config import Config
    from agent.seal import Member

TRUST, SECRETS = "trust", "broker.json"


class Secrets(msgspec.Struct, frozen=True):
    """The agent's password at its own broker, and the part of the commands' topics that nobody can guess."""

    password: str
    token: str

    def __repr__(self) -> str:
        return "<secrets>"  # no log and no crash report shows them


class Sealed:
    """A member's seal as the core takes it."""

    def __init__(self, member: Member) -> None:
        from agent import seal

        self._seal, self._member = seal, member
        self.network, self.cert = member.network, member.cert

    def sign(self, topic: str, body: bytes) -> bytes:
        return self._member.sign(topic, body)

    def verify(self, key: bytes, topic: str, payload: bytes) -> bool:
        return self._seal.verify(key, topic, payload)

    def certified(self, cert: str) -> Certified | None:
        try:
            return self._seal.certified(cert, self._member.ca)
        except self._seal.SealError:
            return None


class Closed:
    """What a closed node is made of, beside what every node is made of."""

    def __init__(self, folder: Path, member: Member, kept: Secrets) -> None:
        self.folder, self.member, self.secrets = folder, member, kept

    @property
    def trust(self) -> Trust:
        return Trust(Sealed(self.member), self.secrets.token)

    @property
    def login(self) -> Login:
        return Login(broker.AGENT, self.secrets.password, f"agent-{os.urandom(8).hex()}")

    def broker(self, tls_port: int, read_port: int | None) -> broker.Closed:
        users = ((broker.AGENT, self.secrets.password), (broker.PERSON, self.secrets.token))
        return broker.Closed(self.folder, tls_port, read_port, "".join(broker.password_line(*user) for user in users))


def is_closed(config: Config) -> bool:
    """Is this node a member of a closed network, whatever its configuration says? Raises OSError, ValueError."""
    folder = config.state.dir / TRUST
    if (folder / private.PENDING).exists():
        private.finish(folder)
    return (folder / "ca.pem").exists() or (folder / "node.pem").exists()


def load(config: Config) -> Closed | None:
    """None: an open node. Raises SealError when it is a closed one that cannot be, OSError."""
    if not is_closed(config):
        return None
    from agent import seal

    folder = (config.state.dir / TRUST).absolute()
    member = seal.Member.load(folder)
    if member is None:
        return None
    if member.id != config.node.id:
        text = f"{folder} makes this node {member.id!r}, and {config.path} calls it {config.node.id!r}: they must be one"
        raise seal.SealError(text)
    return Closed(folder, member, _secrets(folder))


def token(config: Config) -> str | None:
    """The secret part of the commands' topics; None before the first start in a closed network. Raises OSError."""
    try:
        return _read(config.state.dir / TRUST).token
    except (FileNotFoundError, ValueError):
        return None


def _read(folder: Path) -> Secrets:
    return msgspec.json.decode((folder / SECRETS).read_bytes(), type=Secrets)


def _secrets(folder: Path) -> Secrets:
    """Made at the first start. On a read-only card they are this run's alone."""
    try:
        return _read(folder)
    except (FileNotFoundError, ValueError):  # not there, or damaged: then both are made anew
        pass
    new = Secrets(secrets.token_urlsafe(32), secrets.token_urlsafe(16))
    try:
        with private.as_owner(folder):
            private.write(folder / SECRETS, msgspec.json.encode(new))
    except OSError:
        pass  # the store says so for all files
    return new
