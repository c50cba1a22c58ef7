"""A network's authority on disk: bundles, whose node they are for, power cuts halfway, renewal, and what is never shown."""

import base64
import io
import logging
import os
import stat
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import authority, bundle, notary, private, seal
from agent.authority import admit, create, create_headless, install, issued, joins, make_bundle, renewed
from agent.bundle import Bundle, BundleError
from agent.certs import NODE_DAYS, WRITTEN_UNIX
from agent.events import Issued, Warned
from agent.notary import Authority
from agent.seal import Member, SealError
from agent.wire import DAY_S

NOW = 1_795_336_484.0  # 2026-11-22T08:34:44Z
JOIN = ("192.0.2.7:8883",)


@pytest.fixture
def oak(tmp_path):
    """A network whose first node is oak."""
    trust = tmp_path / "oak" / "trust"
    create(trust, "Oak Street", "oak", None, NOW)
    return trust


def bundle_for(trust, id_="barn", **more):
    made = admit(
        trust, Authority.load(trust, None), id_, more.pop("join", JOIN), more.pop("operator", False), more.pop("key", None), NOW
    )
    assert not more
    return bundle.write(made).encode()


def take(tmp_path, data, id_="barn", unix_s=NOW, good=True, place="barn"):
    return install(tmp_path / place / "trust", data, id_, unix_s, good)


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
    assert take(tmp_path, data) == (new, False)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n") + b"\r\n\r\n",
        lambda text: text.decode().replace("\n", "\r\n").encode("utf-16"),
        lambda text: b"\n".join(line for line in text.splitlines() if not line.startswith(b"#")),
    ],
    ids=["bom", "crlf", "notepad", "utf-16", "no comments"],
)
def test_bundles_that_went_through_windows(oak, tmp_path, spoil):
    assert take(tmp_path, spoil(bundle_for(oak)))[1]


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


@given(st.data())
def test_no_letter_of_a_bundle_can_be_changed_unnoticed(made, data):
    """Either it is refused, or it says the very same (a comment, an address's digit)."""
    text = made
    at = data.draw(st.integers(0, len(text) - 1))
    spoilt = bytearray(text)
    spoilt[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[at]))
    try:
        read = bundle.read(bytes(spoilt))
        member = Member(read.ca, read.cert, read.key)
    except (BundleError, SealError) as error:
        said = str(error)
    else:
        said = ""
        first = bundle.read(text)
        assert (member.cert, member.ca, read.key) == (base64.b64encode(first.cert).decode(), first.ca, first.key)
    assert not shows(said, text)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    create(folder / "oak", "Oak", "oak", None, NOW)
    return bundle_for(folder / "oak")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_bundle_or_refused(data):
    with pytest.raises(BundleError):
        bundle.read(data)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"x" * 17_000, "too long"),
        (b"[" * 5000, "no bundle"),
        (b'network="a"\nid="Barn"\nca=""\ncert=""\n', "the id in it is none"),
        (b'network="a"\nid="b"\nca=""\ncert=""\njoin=["a b"]\n', "no HOST:PORT"),
        (b'network="a"\nid="b"\nca="!"\ncert=""\n', "no bundle"),
        (b'network="a"\nid="b"\nca=""\ncert=""\nwhat=1\n', "no bundle"),
        (b"", "no bundle"),
    ],
)
def test_files_that_are_no_bundle(text, why):
    with pytest.raises(BundleError, match=why):
        bundle.read(text)


@given(
    st.text(st.characters(codec="utf-8"), max_size=40).filter(str.isprintable),
    st.binary(max_size=99),
    st.binary(max_size=99),
    st.binary(max_size=32),
)
def test_what_is_written_is_read(name, ca, cert, key):
    for one in (Bundle(name, "a", JOIN, ca, cert, key), Bundle(name, "a", (), ca, cert, None)):
        assert bundle.read(bundle.compact(one).encode()) == one


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


# power cuts


def test_a_power_cut_at_any_moment_leaves_all_or_nothing(oak, tmp_path, monkeypatch):
    """Cut at each write, rename, removal in turn; after the restart the node is a member with one matching set, or is none."""
    first, second = bundle_for(oak), bundle_for(oak)
    steps = 0
    while True:
        place = tmp_path / f"cut-{steps}"
        take(tmp_path, first, place=place.name)
        old = Member.load(place / "trust").certified.key
        if not cut_after(steps, monkeypatch, lambda name=place.name: take(tmp_path, second, place=name)):
            break
        member = Member.load(place / "trust")
        assert member.certified.key in (old, issued(oak, "barn")[-1].key)
        assert not (place / "trust" / private.PENDING).exists()
        steps += 1
    assert steps > 10
    assert Member.load(place / "trust").certified.key == issued(oak, "barn")[-1].key != old


def test_a_power_cut_while_a_network_is_made(tmp_path, monkeypatch):
    steps = 0
    while cut_after(steps, monkeypatch, partial(create, tmp_path / f"cut-{steps}", "Oak", "a", None, NOW)):
        trust = tmp_path / f"cut-{steps}"
        member = Member.load(trust)
        if member is None:
            create(trust, "Oak", "a", None, NOW)
        assert Member.load(trust).id == "a"
        Authority.load(trust, None)
        steps += 1
    assert steps > 10


class Cut(BaseException):
    """The power is gone."""


def cut_after(steps, monkeypatch, work):
    """Do this until so many system calls that change the disk are done. False: it came to its end before."""
    left = [steps]

    def through(real):
        def call(*args, **more):
            if left[0] == 0:
                raise Cut
            left[0] -= 1
            return real(*args, **more)

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync", "unlink", "mkdir"):
            patch.setattr(os, name, through(getattr(os, name)))
        try:
            work()
        except Cut:
            return True
    return False


def test_what_was_about_to_be_written_and_rotted_is_told(oak):
    (oak / private.PENDING).write_bytes(b"{")
    with pytest.raises(SealError, match="pending is damaged"):
        Member.load(oak)


def test_a_member_whose_files_are_damaged_is_not_taken_for_an_open_node(oak, tmp_path):
    for name in ("ca.pem", "node.pem", "node.key"):
        kept = (oak / name).read_bytes()
        for data in (None, b"", kept[:-40], kept.replace(b"A", b"B")):
            (oak / name).unlink() if data is None else (oak / name).write_bytes(data)
            with pytest.raises(SealError):
                Member.load(oak)
        (oak / name).write_bytes(kept)
    assert Member.load(oak).id == "oak"
    # a bundle mends such a node
    data = bundle_for(oak)
    take(tmp_path, data)
    (tmp_path / "barn/trust/node.pem").write_bytes(b"rotten")
    assert take(tmp_path, data)[1]
    assert Member.load(tmp_path / "barn/trust").id == "barn"


def test_leftovers_and_links_are_no_open_door(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    (tmp_path / "f.tmp").symlink_to(target)
    private.write(tmp_path / "f", b"secret")
    assert target.read_bytes() == b"mine"
    (tmp_path / "f.tmp").write_bytes(b"")
    (tmp_path / "f.tmp").chmod(0o666)
    private.write(tmp_path / "f", b"secret 2")
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600
    (tmp_path / "wide").mkdir(mode=0o755)
    private.folder(tmp_path / "wide")
    assert stat.S_IMODE((tmp_path / "wide").stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_works_as_the_user_whose_node_it_is(tmp_path):
    create(tmp_path / "first", "Oak", "a", None, NOW)  # loads what is loaded late: that user may not see this Python's files
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies in directories that are root's alone
        own = Path(folder)
        os.chown(own, 65534, 65534)
        with private.as_owner(own / "trust"):
            assert (os.geteuid(), os.getegid()) == (65534, 65534)
            create(own / "trust", "Oak", "a", None, NOW)
        assert os.geteuid() == 0
        assert {path.stat().st_uid for path in own.rglob("*")} == {65534}


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


# what is never shown


def shows(text, data):
    """Is any part of the bundle's key in this text, as it is spelled anywhere?"""
    key = bundle.read(data).key
    spellings = (base64.b64encode(key).decode(), key.hex(), repr(key), base64.urlsafe_b64encode(key).decode(), str(list(key)))
    return any(spelling[at : at + 12] in text for spelling in spellings for at in range(0, len(spelling) - 12, 4))


def test_no_key_is_in_any_repr_error_log_or_traceback(oak, tmp_path):
    data = bundle_for(oak)
    one = bundle.read(data)
    member, held = Member(one.ca, one.cert, one.key), Authority.load(oak, None)
    texts = [repr(thing) for thing in (one, member, held, vars(held), vars(member), [one], {"x": one}, member.certified)]
    texts += [str(one), f"{one}", f"{member!s}"]
    stream = io.StringIO()
    log = logging.Logger("test")
    log.addHandler(logging.StreamHandler(stream))
    key_line = next(line for line in data.splitlines() if line.startswith(b"key"))
    wrong = [
        data.replace(b'key = "', b"key = "),
        data.replace(b'key = "', b'key = 1 #"'),
        data.replace(key_line, key_line[:-1]),
        data.replace(key_line, key_line + key_line),
        data.replace(b"key =", b"kee ="),
        data.replace(b'"\nkey', b"\nkey"),
        data.replace(b'="', b'\xff="'),
        data.replace(key_line, b'key = "' + base64.b64encode(one.key[:-1]) + b'"'),
        data.replace(key_line, b'key = "' + base64.b64encode(one.key)[:-1] + b'"'),
        data.replace(key_line, b'key = ["' + base64.b64encode(one.key) + b'"]'),
        data + key_line,
    ]
    for number, text in enumerate(wrong):
        try:
            take(tmp_path, text, place=f"wrong-{number}")
        except (BundleError, SealError) as error:
            texts += [str(error), repr(error), "".join(traceback.format_exception(error))]
            log.exception("failed: %r", error)
    assert len(texts) == 11 + 3 * len(wrong)
    for broken in (
        seal.key_pem(one.key)[:-30],
        seal.key_pem(one.key).replace(b"MC4", b"MC5"),
        one.key,
        b"-----BEGIN PRIVATE KEY-----\n" + key_line,
    ):
        with pytest.raises(SealError) as caught:
            seal.key_of(broken)
        texts.append("".join(traceback.format_exception(caught.value)))
    for text in (*texts, stream.getvalue()):
        assert not shows(text, data)
    assert shows(data.decode(), data)  # the look itself finds one


def test_only_the_bundle_and_the_key_file_hold_a_key(oak, tmp_path):
    data = bundle_for(oak)
    take(tmp_path, data)
    key = bundle.read(data).key
    for root in (oak, tmp_path / "barn"):
        for path in root.rglob("*"):
            if path.is_file() and path.name != "node.key":
                assert key not in path.read_bytes()
                assert base64.b64encode(key) not in path.read_bytes()
    assert seal.key_of((tmp_path / "barn/trust/node.key").read_bytes()) == key
