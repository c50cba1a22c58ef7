"""A certificate's whole way: the hourly look, the authority's file, the record, its owner's disk, the next life; all of it real."""

import base64

import pytest
from desk import Desk, published
from fleet import UNIX_S

from agent import authority, bundle, notary, seal
from agent.certs import NODE_DAYS, RENEW_S
from agent.closed import Sealed
from agent.events import Certify, Effect, Install, Issued, Tick, Warned
from agent.seal import Member
from agent.trust import Trust
from agent.wire import DAY_S

LEFT_DAYS = RENEW_S // DAY_S  # so that it is due since some hours


def desk_of(trust, kept=None):
    """A node's core with what lies in this trust directory."""
    member = Member.load(trust)
    desk = Desk(member.id, kept=kept, trust=Trust(Sealed(member), "token"))
    desk.do(Tick(UNIX_S))
    return desk


def carry(source: Desk, effects: list[Effect], to: Desk) -> list[Effect]:
    """What the one tells reaches the other by their link."""
    done = []
    for topic, payload in published(effects).items():
        if topic.startswith("grid/node/"):
            done += to.hear(f"$grid/in/{source.node.me}/{topic.removeprefix('grid/node/')}", payload)
        elif topic.startswith("grid/network/"):
            done += to.hear(f"$grid/in/{source.node.me}/{topic.removeprefix('grid/')}", payload)
    return done


def meet(one: Desk, other: Desk) -> None:
    """The one hears the other until it counts."""
    info = f"grid/node/{other.node.me}/info"
    one.hear(f"$grid/in/{other.node.me}/{other.node.me}/info", other.told[info])
    for _ in range(2):
        one.now += 0.75
        other.now += 0.75
        other.node.speak(other.now)
        carry(other, other.do(Tick(UNIX_S + other.now - 1000.0)), one)


def an_hour(*desks: Desk) -> None:
    for desk in desks:
        desk.now += 3600.0


def look(desk: Desk) -> list[Effect]:
    """The next two sweeps."""
    effects = []
    for _ in range(2):
        desk.now += 10.0
        effects += desk.do(Tick(UNIX_S + desk.now - 1000.0))
    return effects


def only(effects, kind):
    (found,) = [effect for effect in effects if isinstance(effect, kind)]
    return found


@pytest.mark.parametrize("locked", [False, True])
def test_from_the_hourly_look_to_the_owners_next_life(tmp_path, locked):
    oak, barn = tmp_path / "oak", tmp_path / "barn"
    words = "correct horse" if locked else None
    made = authority.create(oak, "Oak", "oak", words, UNIX_S)
    new = authority.admit(oak, made, "barn", (), False, None, UNIX_S)
    aged = seal.der_of(made.issue("barn", seal.public_of(new.key), False, LEFT_DAYS, UNIX_S))
    text = bundle.write(bundle.Bundle(new.network, new.id, new.join, new.ca, aged, new.key))
    authority.install(barn, text.encode(), "barn", UNIX_S, True)
    old = Member.load(barn)
    first, second = desk_of(oak), desk_of(barn)
    an_hour(first, second)
    meet(first, second)

    asked = only(look(first), Certify)
    assert asked.certs == (old.cert,)  # barn's alone: oak's own is of today
    unix_s = UNIX_S + first.now - 1000.0
    outcome = authority.renewed(oak, asked.certs, unix_s)
    if locked:
        assert isinstance(outcome, Warned)
        assert "barn" in outcome.text
        held = notary.Authority.load(oak, words)
        outcome = Issued((authority.renew(oak, held, seal.certified(asked.certs[0], held.ca), unix_s),))
    told = first.do(outcome)
    assert "grid/network/cert/barn" in published(told)

    carry(first, told, second)
    install = only(look(second), Install)
    assert authority.installed(barn, install.cert) == Warned("certificate", "")
    new = Member.load(barn)
    assert (new.id, new.certified.key) == ("barn", old.certified.key)
    assert new.to_unix == int(unix_s) + NODE_DAYS * DAY_S > old.to_unix
    assert base64.b64decode(new.cert) == base64.b64decode(install.cert)

    # the next life tells it, is believed with it, and nobody is asked again
    third = desk_of(barn, kept=second.kept)
    assert "store" not in third.alerts
    third.now = first.now
    an_hour(first, third)
    meet(first, third)
    assert first.node.trust.known["barn"].to_unix == new.to_unix
    assert only(look(first), Certify).certs == ()
    assert not [effect for effect in look(third) if isinstance(effect, Install)]
    assert first.node.show.refusals.total == 0
