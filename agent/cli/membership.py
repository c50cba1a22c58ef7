"""grid network: a closed network is made, shown, and asked for a place in it."""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from agent.cli.main import config_option, json_option
from agent.cli.table import Column, show
from agent.cli.words import USAGE, ask, fail, load, say, say_json

if TYPE_CHECKING:
    from agent.config import Config

MEMBERS = (Column("node"), Column("certificate ends"), Column("operator", 1))
T = TypeVar("T")


def trust_of(config: Config) -> Path:
    return config.state.dir.absolute() / "trust"


def guarded(config: Config, work: Callable[[], T]) -> T:
    """Do this as the user whose node it is; what goes wrong ends the command with its reason."""
    from agent import private
    from agent.bundle import BundleError
    from agent.seal import SealError

    try:
        with private.as_owner(config.state.dir):
            return work()
    except (SealError, BundleError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or config.state.dir}: {error.strerror}. Is this the node's own user, or root?")


def passphrase(file: Path | None, twice: bool, what: str) -> str:
    """From a file's first line, or typed unseen. The same letters typed on another keyboard are the same (RFC 8265, 4.2)."""
    from agent.notary import MIN_PASSPHRASE

    if file is not None:
        try:
            text = file.read_bytes().decode("utf-8-sig").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            fail(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}")
    elif sys.stdin.isatty():
        text = click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True)
    else:
        fail("nobody is there to type a passphrase: name a file with --passphrase-file", USAGE)
    text = unicodedata.normalize("NFC", text)
    if twice and len(text) < MIN_PASSPHRASE:
        fail(
            f"the passphrase is shorter than {MIN_PASSPHRASE} characters. A stolen card would give it away: take some words", USAGE
        )
    return text


passphrase_option = click.option(
    "--passphrase-file", "file", type=click.Path(path_type=Path, dir_okay=False), help="Its first line is the passphrase."
)


@click.group()
def network() -> None:
    """A closed network: make one, ask to be admitted, show who is in it."""


@network.command()
@click.argument("name")
@passphrase_option
@click.option(
    "--no-passphrase", "plain", is_flag=True, help="Keep the key plain on this node: it then renews certificates by itself."
)
@config_option
def init(name: str, file: Path | None, plain: bool, path: Path | None) -> None:
    """Make a closed network of this NAME, with this node as its first member and operator.

    Whoever has the authority's key decides who is in the network. A passphrase keeps it from who steals this card.
    """
    if plain and file is not None:
        raise click.UsageError("either --passphrase-file or --no-passphrase")
    from agent import authority, seal

    config = load(path)
    words = None if plain else passphrase(file, True, "A passphrase for the network's key")
    made = guarded(config, lambda: authority.create(trust_of(config), name, config.node.id, words, time.time()))
    say(f"the closed network {name!r} is made; {config.node.id} is its first member and operator")
    say(f"fingerprint {pretty(seal.root_of(made.ca).fingerprint)}")
    say("a running agent starts anew with it in a moment. Each other node needs a bundle now: grid admit ID --out FILE")
    if plain:
        say("the key is not encrypted: keep this card safe, and a copy of its trust directory elsewhere", err=True)


def pretty(fingerprint: str) -> str:
    """Four at a time, to be read out."""
    return " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


@network.command()
@config_option
@click.option("--out", type=click.Path(path_type=Path), help="Write it there instead of printing it.")
def request(path: Path | None, out: Path | None) -> None:
    """Ask for a bundle with a key that is made here and never leaves this node: for grid admit ID --request FILE."""
    from agent import authority

    config = load(path)
    text = guarded(config, lambda: authority.request(trust_of(config), config.node.id)).decode()
    if out is None:
        say(text.rstrip())
        return
    try:
        out.write_text(text)
    except OSError as error:
        fail(f"{out}: {error.strerror}")


@network.command("show")
@config_option
@json_option
def show_(path: Path | None, as_json: bool) -> None:
    """The network's name and fingerprint, and its members as this node knows them."""
    from agent import seal

    config = load(path)
    member = guarded(config, lambda: seal.Member.load(trust_of(config)))
    if member is None:
        if as_json:
            say_json({"closed": False, "node": config.node.id})
        else:
            say("this node is in no closed network: whoever reaches it can read and write. To make one: grid network init NAME")
        return
    told = ask(config, "members")
    root = seal.root_of(member.ca)
    if as_json:
        rows = {id_: {"until": day(row["to"]), "operator": row["operator"]} for id_, row in told["members"].items()}
        own = {"closed": True, "node": member.id, "network": root.network, "fingerprint": root.fingerprint}
        say_json({**own, "until": day(root.to_unix), "members": rows, "revoked": told["revoked"]})
        return
    say(f"network {root.network!r}, until {day(root.to_unix)}")
    say(f"fingerprint {pretty(root.fingerprint)}")
    show(MEMBERS, [[id_, day(row["to"]), "yes" if row["operator"] else ""] for id_, row in told["members"].items()])
    for id_, keys in told["revoked"].items():
        say(f"revoked: {id_} ({len(keys)} {'key' if len(keys) == 1 else 'keys'})")


def day(unix_s: int) -> str:
    from agent.own import iso

    return iso(unix_s)[:10]


@network.command()
@config_option
def token(path: Path | None) -> None:
    """Print the topic by which programs of this house switch its loads: keep it from others.

    Say ON, OFF or AUTO there, never retained. It was made at the node's first start in the closed network.
    """
    from agent import closed
    from agent.broker_conf import PERSON
    from agent.wire import COMMAND

    config = load(path)
    secret = guarded(config, lambda: closed.token(config))
    if secret is None:
        fail("this node is in no closed network, or was never started in it")
    say(f"{COMMAND}{secret}/LOAD")
    if config.mqtt.read_port is not None:  # then nobody without a name may write
        say(f"as user {PERSON}, with {secret} as the password", err=True)
