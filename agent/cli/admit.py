"""grid admit, grid revoke: who belongs to a closed network, as its operators say."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.main import config_option
from agent.cli.membership import day, guarded, passphrase, passphrase_option, trust_of
from agent.cli.words import USAGE, ask, fail, load, say

if TYPE_CHECKING:
    from agent.config import Config
    from agent.notary import Authority

NO_AUTHORITY = "the network's authority is not on this node: admit where 'grid network init' was called"


def _authority(config: Config, file: Path | None) -> Authority:
    """Opened with its passphrase, if it has one."""
    from agent import authority
    from agent.notary import Authority

    trust = trust_of(config)
    if not guarded(config, lambda: authority.has_authority(trust)):
        fail(NO_AUTHORITY)
    locked = guarded(config, lambda: authority.is_locked(trust))
    words = passphrase(file, False, "Passphrase of the network") if locked else None
    return guarded(config, lambda: Authority.load(trust, words))


def _here(config: Config, given: tuple[str, ...]) -> tuple[str, ...]:
    """Where the new node finds this one: as it is told, as others reached it, or by its name in the local network."""
    import socket

    from agent.address import TLS_PORT, Address, to_address

    if given:
        found = [to_address(text, TLS_PORT) for text in given]
        if None in found:
            fail(f"not an address: {given[found.index(None)]!r}. Write HOST:PORT, as 192.0.2.7:{TLS_PORT}", USAGE)
        return tuple(map(str, found))
    if config.node.address is not None:
        return (str(Address(config.node.address.host, config.mqtt.tls_port)),)
    told = _told(config)
    if told is not None and told.get("address"):
        return (told["address"],)
    return (str(Address(f"{socket.gethostname().partition('.')[0].lower()}.local", config.mqtt.tls_port)),)


def _told(config: Config) -> dict[str, Any] | None:
    """The running agent's list of members; None when none runs, or it is not in the network yet."""
    from agent import control

    try:
        answer: dict[str, Any] = json.loads(control.ask(config.state.dir, "members"))
    except control.Unreachable:
        return None
    return None if "error" in answer else answer


@click.command()
@click.argument("node", required=False)
@click.option("--operator", is_flag=True, help="It may admit nobody, but change the tariff, and forget and revoke nodes.")
@click.option("--join", "joins", multiple=True, metavar="HOST:PORT", help="Whom it shall join, by TLS. Without it: this node.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the bundle there, for its owner's eyes only.")
@click.option("--qr", is_flag=True, help="Show it as a QR code, too.")
@click.option("--request", "asked", type=click.Path(path_type=Path), help="What 'grid network request' wrote on that node.")
@click.option("--renew", is_flag=True, help="Renew the certificates of all members that are heard, with one passphrase.")
@passphrase_option
@config_option
def admit(
    node: str | None,
    operator: bool,
    joins: tuple[str, ...],
    out: Path | None,
    qr: bool,
    asked: Path | None,
    renew: bool,
    file: Path | None,
    path: Path | None,
) -> None:
    """Make NODE a member of this node's closed network: one bundle file, for 'grid join --bundle' there.

    Without --out the bundle is printed: grid admit barn | ssh barn grid join --bundle -
    """
    if renew == (node is not None):
        raise click.UsageError("name the NODE to be admitted" if node is None else "--renew is for all nodes at once")
    config = load(path)
    if renew:
        _renew(config, file)
        return
    assert node is not None
    from agent import authority, bundle, durable, notary

    key = None
    if asked is not None:
        try:
            text = asked.read_bytes()
        except OSError as error:
            fail(f"{asked}: {error.strerror}")
        named, key = guarded(config, lambda: notary.requested(text))
        if named != node:
            fail(f"{asked} is the request of {named!r}, not of {node!r}")
    if out is not None and out.exists():
        fail(f"{out} is there already: name another file, or remove it")
    where = _here(config, joins)
    held = _authority(config, file)
    trust, unix_s = trust_of(config), time.time()
    before = guarded(config, lambda: authority.issued(trust, node))
    made = guarded(config, lambda: authority.admit(trust, held, node, where, operator, key, unix_s))
    text_ = bundle.write(made)
    if out is not None:
        try:
            durable.write(out.absolute(), text_.encode())
        except OSError as error:
            fail(f"{out}: {error.strerror}")
        say(f"{out}: the bundle of {node}, which joins {', '.join(where)}")
        if made.key is not None:
            say(f"whoever has this file can be {node}: carry it there, then remove it here")
    else:
        say(text_.rstrip())
    if qr:
        from agent.cli.qr import show_qr

        show_qr(bundle.compact(made))
    _again(config, node, [cert.key for cert in before if cert.key != key])


def _again(config: Config, node: str, old: list[bytes]) -> None:
    """An id that had other keys: those go on being believed unless somebody revokes them."""
    if not old:
        return
    told = _told(config)
    if told is not None and node in told["revoked"]:
        ask(config, "revoke", json.dumps({"node": node, "admitted": True}))
        say(f"{node} was revoked: it is let in again with its new key", err=True)
    else:
        say(
            f"{node} was admitted before. Is its old key lost or stolen? Then first 'grid revoke {node}', and admit it again",
            err=True,
        )


def _renew(config: Config, file: Path | None) -> None:
    from agent import authority, seal

    told = ask(config, "members")
    rows = [row["cert"] for row in told["members"].values() if row["renew"]]
    if not rows:
        say("every member that is heard has a certificate of this month")
        return
    held, trust = _authority(config, file), trust_of(config)
    members = [seal.certified(cert, held.ca) for cert in rows]
    for cert in guarded(config, lambda: [authority.renew(trust, held, one, time.time()) for one in members]):
        ask(config, "tell", cert)
        one = seal.certified(cert, held.ca)
        say(f"{one.id}: renewed until {day(one.to_unix)}")


@click.command()
@click.argument("node")
@config_option
def revoke(node: str, path: Path | None) -> None:
    """Believe NODE's key no more, anywhere: its card was stolen, or it turned hostile. 'grid admit' lets it in anew."""
    from agent import authority
    from agent.trust import spelled

    config = load(path)
    known = guarded(config, lambda: authority.issued(trust_of(config), node))
    wanted = {"node": node, "keys": list(dict.fromkeys(spelled(cert.key) for cert in known))[-50:]}  # a request has 4 KB
    answer = ask(config, "revoke", json.dumps(wanted))
    count = len(answer["keys"])
    say(f"{answer['revoked']} is shut out: {count} {'key' if count == 1 else 'keys'} revoked, on its way to every node")
