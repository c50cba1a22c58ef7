"""A closed network on this node's disk: its member's seal for the core, and the secrets that it makes for its own broker."""

import os
import secrets
from pathlib import Path

import msgspec

from agent import broker, broker_conf, durable, private, seal
from agent.bus import Login
from agent.certs import Certified
from agent.config import Config
from agent.seal import Member
from agent.trust import Trust

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
        self._member = member
        self.network, self.cert = member.network, member.cert

    def sign(self, topic: str, body: bytes) -> bytes:
        return self._member.sign(topic, body)

    def verify(self, key: bytes, topic: str, payload: bytes) -> bool:
        return seal.verify(key, topic, payload)

    def certified(self, cert: str) -> Certified | None:
        try:
            return seal.certified(cert, self._member.ca)
        except seal.SealError:
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
        return Login(broker_conf.AGENT, self.secrets.password, f"agent-{os.urandom(8).hex()}")

    def broker(self, tls_port: int, read_port: int | None) -> broker.Closed:
        users = ((broker_conf.AGENT, self.secrets.password), (broker_conf.PERSON, self.secrets.token))
        passwords = "".join(broker_conf.password_line(*user) for user in users)
        return broker.Closed(self.folder, tls_port, read_port, passwords)


def is_closed(config: Config) -> bool:
    """Is this node a member of a closed network, whatever its configuration says? Raises OSError, ValueError."""
    return seal.is_member(config.state.dir / TRUST)


def load(config: Config) -> Closed | None:
    """None: an open node. Raises SealError when it is a closed one that cannot be."""
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
            durable.write(folder / SECRETS, msgspec.json.encode(new))
    except OSError:
        pass  # the store says so for all files
    return new
