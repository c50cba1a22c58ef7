"""Files that belong together: power cuts halfway, damage, leftovers and links, root at work in another user's directory."""

import os
import stat
import tempfile
from functools import partial
from pathlib import Path

import pytest
from bundles import NOW, bundle_for, first_node, take

from agent import durable, private
from agent.authority import create, issued
from agent.notary import Authority
from agent.seal import Member, SealError


@pytest.fixture
def oak(tmp_path):
    return first_node(tmp_path)


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


def test_a_network_that_was_half_made_is_the_one_that_stays(tmp_path, monkeypatch):
    """Whoever calls again is told so: a second authority in the place of the first would shut its members out."""
    steps = begun = 0
    while cut_after(steps, monkeypatch, partial(create, tmp_path / f"cut-{steps}", "Oak", "a", None, NOW)):
        trust = tmp_path / f"cut-{steps}"
        if (trust / private.PENDING).exists():
            begun += 1
            with pytest.raises(SealError, match="belongs to a network already"):
                create(trust, "Elm", "a", None, NOW)
            assert Member.load(trust).network == "Oak"
        steps += 1
    assert begun > 5


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
    (tmp_path / "f.new").symlink_to(target)
    durable.write(tmp_path / "f", b"secret")
    assert target.read_bytes() == b"mine"
    (tmp_path / "f.new").write_bytes(b"")
    (tmp_path / "f.new").chmod(0o666)
    durable.write(tmp_path / "f", b"secret 2")
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
