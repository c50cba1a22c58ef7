"""A network's authority on disk: who gets a bundle, whose node it makes of whom, and how certificates are renewed."""

import base64
import os
import stat
import time

import pytest
from bundles import JOIN, NOW, bundle_for, first_node, take

from agent import authority, bundle, notary, seal
from agent.authority import admit, create, create_headless, install, issued, joins, make_bundle, renewed
from agent.bundle import BundleError
from agent.certs import NODE_DAYS, WRITTEN_UNIX
from agent.events import Issued, Warned
from agent.notary import Authority
from agent.seal import Member, SealError
from agent.wire import DAY_S


@pytest.fixture
def oak(tmp_path):
    return first_node(tmp_path)


# making a network


def test_the_first_node_is_a_member_and_operator_from_the_start(oak):
    member = Member.load(oak)
    assert (member.id, member.network, member.certified.operator) == ("oak", "Oak Street", True)
    assert member.to_unix == int(NOW) + NODE_DAYS * DAY_S
    assert issued(oak, "oak") == [member.certified]
    assert authority.admitted(oak) == ["oak"]
    assert authority.has_authority(oak)
    assert not authority.is_locked(oak)
    assert joins(oak) == ()
    for path in (oak, *oak.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_nothing_is_readable_by_others_at_any_moment(tmp_path, monkeypatch):
    """Every file is made 0600 whatever the umask, and nothing is made wider first."""
    opened = []
    real = os.open

    def spy(path, flags, mode=0o777, **more):
        if flags & os.O_CREAT:
            opened.append((mode, bool(flags & os.O_EXCL), bool(flags & os.O_NOFOLLOW)))
        return real(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", spy)
    before = os.umask(0)
    try:
        create(tmp_path / "trust", "x", "a", "long enough", NOW)
    finally:
        os.umask(before)
    assert len(opened) == 6  # the whole as one, and five files
    assert set(opened) == {(0o600, True, True)}


def test_a_second_network_is_refused_and_leaves_the_first_alone(oak):
    before = {path: path.read_bytes() for path in oak.rglob("*") if path.is_file()}
    for name in ("Elm", "Oak Street"):
        with pytest.raises(SealError, match="belongs to a network already"):
            create(oak, name, "oak", None, NOW)
    with pytest.raises(SealError, match="belongs to a network already"):
        Authority.create(oak, "Elm", None, NOW)
    assert {path: path.read_bytes() for path in oak.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["", " ", " a", "a\n", "a\0", "x" * 41, "\x1b[31m"])
def test_names_of_networks(tmp_path, name):
    with pytest.raises(SealError, match="a network's name"):
        create(tmp_path / "trust", name, "a", None, NOW)
    assert not (tmp_path / "trust").exists()


@pytest.mark.parametrize(
    "id_", ["", "Barn", "agent", "network", "view", "admin", "anonymous", "root", "a b", "../x", "a" * 33, "$x"]
)
def test_ids_that_nobody_gets(oak, tmp_path, id_):
    with pytest.raises(SealError):
        bundle_for(oak, id_)
    with pytest.raises(SealError):
        create(tmp_path / "other", "x", id_, None, NOW)
    with pytest.raises(SealError):
        issued(oak, id_)
    assert authority.admitted(oak) == ["oak"]


def test_a_passphrase_guards_the_key(tmp_path):
    trust = tmp_path / "trust"
    create(trust, "Oak", "a", "correct horse", NOW)
    assert authority.is_locked(trust)
    assert b"PRIVATE" not in (trust / "authority/ca.key").read_bytes()
    with pytest.raises(SealError, match="needs its passphrase"):
        Authority.load(trust, None)
    with pytest.raises(SealError, match="wrong passphrase"):
        Authority.load(trust, "correct hose")
    assert Authority.load(trust, "correct horse").root.network == "Oak"
    with pytest.raises(SealError, match="not on this node"):
        Authority.load(tmp_path, None)
    with pytest.raises(SealError, match="needs its passphrase"):
        make_bundle(trust, "b", [])


def test_without_a_person(tmp_path):
    trust = tmp_path / "trust"
    create_headless(trust, "Oak", "a")
    text = make_bundle(trust, "b", ["a.local:8883"])
    new, changed = install(tmp_path / "b", text.encode(), "b", time.time(), True)
    assert (new.join, changed, Member.load(tmp_path / "b").id) == (("a.local:8883",), True, "b")


def test_a_clock_from_before_this_was_written_dates_nothing(tmp_path):
    create(tmp_path / "trust", "x", "a", None, 0.0)
    assert Member.load(tmp_path / "trust").to_unix == WRITTEN_UNIX + NODE_DAYS * DAY_S


# bundles


def test_a_bundle_makes_a_member_and_a_second_time_changes_nothing(oak, tmp_path):
    data = bundle_for(oak, operator=True)
    new, changed = take(tmp_path, data)
    trust = tmp_path / "barn" / "trust"
    member = Member.load(trust)
    assert changed
    assert (member.id, member.network, member.certified.operator, joins(trust)) == ("barn", "Oak Street", True, JOIN)
    assert seal.verify(member.certified.key, "t", member.sign("t", b'{"a":1}'))
    for path in (trust, *trust.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    met = trust.parent / authority.MET
    met.write_text("[]")
    assert take(tmp_path, data) == (new, False)
    assert met.exists()
    assert take(tmp_path, bundle_for(oak))[1]
    assert not met.exists()  # the addresses that it brings are tried, whomever this node met before


def test_a_bundle_is_for_one_node(oak, tmp_path):
    data = bundle_for(oak)
    take(tmp_path, data)
    with pytest.raises(BundleError, match="this bundle is for the node 'barn', and this one is 'mill'"):
        take(tmp_path, data, "mill", place="mill")
    assert Member.load(tmp_path / "mill" / "trust") is None
    # renamed by hand: its certificate tells
    with pytest.raises(BundleError, match="the bundle was changed"):
        take(tmp_path, data.replace(b'id = "barn"', b'id = "mill"'), "mill", place="mill")
    with pytest.raises(BundleError, match="the bundle was changed"):
        take(tmp_path, data.replace(b'network = "Oak', b'network = "Elm'))


def test_a_member_of_one_network_is_not_taken_away_by_another(oak, tmp_path):
    take(tmp_path, bundle_for(oak))
    create(tmp_path / "elm", "Oak Street", "elm", None, NOW)
    before = (tmp_path / "barn/trust/ca.pem").read_bytes()
    with pytest.raises(BundleError, match="is a member of 'Oak Street'"):
        take(tmp_path, bundle_for(tmp_path / "elm"))
    assert (tmp_path / "barn/trust/ca.pem").read_bytes() == before
    # and the authority's own node is no barn
    with pytest.raises(SealError, match="this node itself"):
        bundle_for(oak, "oak")


def test_dates_are_judged_by_a_good_clock_only(oak, tmp_path):
    data, end = bundle_for(oak), NOW + NODE_DAYS * DAY_S
    with pytest.raises(BundleError, match=r"has expired\. Make a new one: grid admit barn"):
        take(tmp_path, data, unix_s=end + 1)
    assert take(tmp_path, data, unix_s=end + 1, good=False)[1]
    assert take(tmp_path, data, unix_s=0.0, place="behind")[1]


# a key that never leaves its node


def test_a_request_is_answered_with_a_bundle_without_a_key(oak, tmp_path):
    trust = tmp_path / "barn" / "trust"
    pem = authority.request(trust, "barn")
    id_, key = notary.requested(pem)
    assert authority.request(trust, "barn") != b""
    assert notary.requested(authority.request(trust, "barn")) == (id_, key)
    assert Member.load(trust) is None
    data = bundle_for(oak, id_, key=key)
    assert b"\nkey" not in data
    with pytest.raises(BundleError, match="whose key is not on this node"):
        take(tmp_path, data, place="other")
    assert take(tmp_path, data)[1]
    assert Member.load(trust).certified.key == key
    assert not (trust / authority.REQUEST).exists()
    assert take(tmp_path, data) == (bundle.read(data), False)


# renewal


def test_a_new_certificate_for_the_same_key(oak, tmp_path):
    take(tmp_path, bundle_for(oak, operator=True))
    trust = tmp_path / "barn" / "trust"
    before, later = Member.load(trust), NOW + 500 * DAY_S
    outcome = renewed(oak, [before.cert], later)
    assert isinstance(outcome, Issued)
    assert authority.installed(trust, outcome.certs[0]) == Warned("certificate", "")
    after = Member.load(trust)
    assert (after.certified.key, after.id, after.certified.operator) == (before.certified.key, "barn", True)
    assert after.to_unix == int(later) + NODE_DAYS * DAY_S
    assert stat.S_IMODE((trust / "node.pem").stat().st_mode) == 0o600
    # an older one, and the one that is there, change nothing
    for cert in (before.cert, after.cert):
        assert not authority.install_renewed(trust, cert)
    assert Member.load(trust).cert == after.cert
    assert [cert.to_unix for cert in issued(oak, "barn")] == [before.to_unix, after.to_unix]


def test_a_bundle_that_stays_on_the_card_does_not_undo_a_renewal(oak, tmp_path):
    data = bundle_for(oak)
    take(tmp_path, data)
    trust = tmp_path / "barn" / "trust"
    authority.install_renewed(trust, renewed(oak, [Member.load(trust).cert], NOW + 500 * DAY_S).certs[0])
    cert = Member.load(trust).cert
    assert not take(tmp_path, data)[1]
    assert Member.load(trust).cert == cert
    # nor does an older bundle bring an older key back
    newer = bundle.write(admit(oak, Authority.load(oak, None), "barn", JOIN, False, None, NOW + 600 * DAY_S)).encode()
    assert take(tmp_path, newer)[1]
    with pytest.raises(BundleError, match="older than the one"):
        take(tmp_path, data)


def test_certificates_that_are_not_for_this_node(oak, tmp_path):
    take(tmp_path, bundle_for(oak))
    trust, before = tmp_path / "barn" / "trust", (tmp_path / "barn/trust/node.pem").read_bytes()
    create(tmp_path / "elm", "Oak Street", "elm", None, NOW)
    other = base64.b64encode(bundle.read(bundle_for(oak, "mill")).cert).decode()
    again = base64.b64encode(bundle.read(bundle_for(oak, "barn")).cert).decode()
    key = Member.load(trust).certified.key
    foreign = base64.b64encode(seal.der_of(Authority.load(tmp_path / "elm", None).issue("barn", key, False, 9999, NOW))).decode()
    for cert in (other, again, foreign, "", "!"):
        said = authority.installed(trust, cert)
        assert said.text.startswith("the renewed certificate cannot be installed: ")
    assert (trust / "node.pem").read_bytes() == before
    assert authority.installed(tmp_path / "nobody", other).text.endswith("this node is in no closed network")


def test_who_renews(oak, tmp_path):
    cert = Member.load(oak).cert
    assert renewed(tmp_path / "barn", [cert], NOW) is None
    assert renewed(oak, [], NOW) == Issued(())
    assert "cannot be renewed" in renewed(oak, ["AAAA"], NOW).text
    locked = tmp_path / "locked"
    create(locked, "Elm", "elm", "correct horse", NOW)
    assert renewed(locked, [], NOW) == Warned("authority", "")
    said = renewed(locked, [Member.load(locked).cert], NOW)
    assert said.text.startswith("certificates must be renewed before 2028-11-21: elm. 'grid admit --renew' on this node")
    (locked / "ca.pem").write_bytes(b"rotten")
    assert "cannot be renewed" in renewed(locked, [cert], NOW).text
