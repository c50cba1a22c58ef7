"""A card makes its closed network, leaves bundles for others and takes its own: once, whatever happens in between."""

import stat
from pathlib import Path

import msgspec
import pytest
from cards import FIRST, MILL, OAK, Card, carried, everything, member, started, trust

from agent import authority, bundle
from agent.store import Store


@pytest.fixture
def first(tmp_path: Path) -> Card:
    return started(tmp_path / "first", grid_toml=FIRST)


def test_the_first_card_makes_the_network_and_leaves_bundles(first: Card) -> None:
    assert (member(first, "mill").network, member(first, "mill").certified.operator) == ("Mill Lane", True)
    assert stat.S_IMODE(trust(first, "mill").stat().st_mode) == 0o700
    assert stat.S_IMODE(trust(first, "mill").parent.stat().st_mode) == 0o700
    assert "Network: member of 'Mill Lane', which is closed\n" in first.status
    assert "Bundles that lie here for other nodes: oak.bundle, barn.bundle." in first.status
    for id_ in ("oak", "barn"):
        read = bundle.read((first.places.boot / f"{id_}.bundle").read_bytes())
        assert (read.id, read.network, read.join, read.ca) == (id_, "Mill Lane", ("mill.local:8883",), member(first, "mill").ca)
        assert read.key is not None
    assert (first.places.run / "problems").read_text() == ""


def test_an_address_and_a_port_of_its_own_stand_in_the_bundles(tmp_path: Path) -> None:
    text = FIRST.replace("rated_w", 'address = "192.0.2.7:1883"\nrated_w') + "[mqtt]\ntls_port = 8884\n"
    first = started(tmp_path, grid_toml=text)
    assert bundle.read((first.places.boot / "oak.bundle").read_bytes()).join == ("192.0.2.7:8884",)


def test_another_boot_makes_nothing_again(first: Card) -> None:
    before = everything(first)
    first.boot()
    assert everything(first) == before
    (first.places.boot / "oak.bundle").unlink()  # it is on its card by now
    for _ in range(2):
        first.boot()
        assert not (first.places.boot / "oak.bundle").exists()
    assert len(authority.issued(trust(first, "mill"), "oak")) == 1


def test_a_lost_bundle_is_made_again_when_its_id_was_out_for_a_start(first: Card) -> None:
    (first.places.boot / "oak.bundle").unlink()
    first.put(**{"grid.toml": FIRST.replace('"oak", ', "")})
    first.boot()
    assert not (first.places.boot / "oak.bundle").exists()
    first.put(**{"grid.toml": FIRST})
    first.boot()
    assert (first.places.boot / "oak.bundle").exists()
    assert [len(authority.issued(trust(first, "mill"), id_)) for id_ in ("oak", "barn")] == [2, 1]


def test_who_was_admitted_by_hand_gets_no_second_one(tmp_path: Path) -> None:
    first = started(tmp_path, grid_toml=FIRST.replace(', "barn"', ""))
    authority.make_bundle(trust(first, "mill"), "barn", ("mill.local:8883",))
    first.put(**{"grid.toml": FIRST})
    first.boot()
    assert not (first.places.boot / "barn.bundle").exists()


def test_a_bundle_goes_when_its_node_was_seen(first: Card) -> None:
    rows = [("grid/node/oak/info", b"{}"), ("grid/node/mill/state", b"{}"), ("grid/network/tariff", b"{}")]
    assert Store(trust(first, "mill").parent).save("records", msgspec.json.encode(rows)) == ""
    first.boot()
    assert sorted(path.name for path in first.places.boot.glob("*.bundle")) == ["barn.bundle"]
    assert "for other nodes: barn.bundle. Move" in first.status
    (trust(first, "mill").parent / "records.json").write_text("damaged")
    first.boot()
    assert sorted(path.name for path in first.places.boot.glob("*.bundle")) == ["barn.bundle"]
    (first.places.boot / "barn.bundle").unlink()
    first.boot()
    assert "Admitted: oak, barn. To have one made again, take its id out of admit for one start\n" in first.status


def test_a_network_keeps_its_name(first: Card) -> None:
    first.put(**{"grid.toml": FIRST.replace("Mill Lane", "Mill Street")})
    (problem,) = first.boot().problems
    assert problem.startswith("network.create: this node made the network 'Mill Lane', whose name stays. Write create = ")
    assert member(first, "mill").network == "Mill Lane"


def test_a_bundle_stays_while_only_something_of_the_name_was_seen(tmp_path: Path) -> None:
    """grid/network/cert/… is no record of a node `cert`."""
    first = started(tmp_path, grid_toml=FIRST.replace('"oak"', '"cert"'))
    rows = [("grid/network/cert/barn", b"{}"), ("grid/node/barn", b"{}")]
    assert Store(trust(first, "mill").parent).save("records", msgspec.json.encode(rows)) == ""
    first.boot()
    assert sorted(path.name for path in first.places.boot.glob("*.bundle")) == ["barn.bundle", "cert.bundle"]


@pytest.mark.parametrize("begun", [False, True])
def test_bundles_of_a_network_before_are_no_problem_and_no_bundles_of_this_one(tmp_path: Path, begun: bool) -> None:
    """The data partition was lost, or its owner starts anew."""
    before = started(tmp_path / "before", grid_toml=FIRST)
    first = Card(tmp_path / "first", grid_toml=FIRST)
    first.put(**{"oak.bundle": (before.places.boot / "oak.bundle").read_bytes()})
    if begun:
        (first.places.data / "boot/admit").mkdir(parents=True)
        (first.places.data / "boot/admit/oak").write_text("begun")
    assert first.boot().problems == []
    assert bundle.read((first.places.boot / "oak.bundle").read_bytes()).ca == member(first, "mill").ca


def test_an_id_that_nobody_may_have(tmp_path: Path) -> None:
    first = started(tmp_path, grid_toml=FIRST.replace('"oak"', '"root"'))
    assert "\nnetwork.admit: root: " in (first.places.run / "problems").read_text()
    assert (first.places.boot / "barn.bundle").exists()


# the others


def test_a_card_with_its_bundle_becomes_a_member_and_keeps_it_to_itself(first: Card, tmp_path: Path) -> None:
    oak = carried(first, tmp_path / "oak")
    assert oak.boot().problems == []
    assert member(oak, "oak").ca == member(first, "mill").ca
    assert authority.joins(trust(oak, "oak")) == ("mill.local:8883",)
    assert stat.S_IMODE((trust(oak, "oak") / "node.key").stat().st_mode) == 0o600
    assert not (oak.places.boot / "oak.bundle").exists()
    assert "Network: member of 'Mill Lane', which is closed\n" in oak.status
    before = everything(oak)
    oak.boot()
    assert everything(oak) == before
    oak.put(**{"OAK.BUNDLE": (first.places.boot / "oak.bundle").read_bytes()})  # once more, as some computers spell it
    assert oak.boot().problems == []
    assert not (oak.places.boot / "OAK.BUNDLE").exists()


def test_without_a_bundle_a_closed_node_says_what_it_waits_for(tmp_path: Path) -> None:
    oak = started(tmp_path, grid_toml=OAK)
    assert "Network: closed, and this node is in none yet: it talks to nobody\n" in oak.status
    assert "  ! Put oak.bundle here, from 'grid admit oak' or the first node's card\n" in oak.status
    oak.put(**{"grid.toml": OAK.replace("true", "false")})
    assert oak.boot().problems == []
    assert "Network: open, whoever reaches this node can read and write\n" in oak.status


def test_bundles_that_are_not_taken(first: Card, tmp_path: Path) -> None:
    other = started(tmp_path / "other", grid_toml=FIRST.replace("Mill Lane", "Elsewhere"))
    good = (first.places.boot / "oak.bundle").read_bytes()
    oak = carried(first, tmp_path / "oak")
    oak.boot()
    for name, data, says in (
        ("barn.bundle", (first.places.boot / "barn.bundle").read_bytes(), "barn.bundle: this bundle is for the node 'barn', and"),
        ("oak.bundle", (other.places.boot / "oak.bundle").read_bytes(), "oak.bundle: this bundle is of the network 'Elsewhere' ("),
        ("oak.bundle", good[:200], "oak.bundle: this is no bundle, or a damaged one."),
        ("oak.bundle", b"", "oak.bundle: this is no bundle, or a damaged one."),
        ("oak.bundle.txt", good, "oak.bundle.txt is not read. Its name must end in .bundle;"),
    ):  # fmt: skip
        oak.put(**{name: data})
        (problem,) = oak.boot().problems
        assert problem.startswith(says)
        assert f"  ! {says}" in oak.status
        assert member(oak, "oak").ca == member(first, "mill").ca
        assert (oak.places.boot / name).read_bytes() == data  # it is the user's, and not ours
        (oak.places.boot / name).unlink()
    assert oak.boot().problems == []


def test_a_bundle_may_be_named_otherwise(first: Card, tmp_path: Path) -> None:
    oak = Card(tmp_path / "oak", grid_toml=OAK)
    oak.put(**{"oak (1).bundle": b"\xef\xbb\xbf" + (first.places.boot / "oak.bundle").read_bytes().replace(b"\n", b"\r\n")})
    assert oak.boot().problems == []
    assert member(oak, "oak").id == "oak"


def test_damaged_trust_is_told_and_a_new_bundle_mends_it(first: Card, tmp_path: Path) -> None:
    oak = carried(first, tmp_path / "oak")
    data = (oak.places.boot / "oak.bundle").read_bytes()
    oak.boot()
    (trust(oak, "oak") / "node.pem").write_bytes(b"\0" * 100)
    (problem,) = oak.boot().problems
    assert "Take a new bundle" in problem
    assert "Network: closed, but not as grid.toml or a bundle has it\n" in oak.status
    oak.put(**{"oak.bundle": data})
    assert oak.boot().problems == []
    assert member(oak, "oak").id == "oak"


def test_the_authority_does_not_take_its_bundles_for_its_own(first: Card) -> None:
    first.put(**{"grid.toml": MILL})  # without create, by somebody who thought that it had done its work
    assert first.boot().problems == []
    assert (first.places.boot / "oak.bundle").exists()
    assert "Network: member of 'Mill Lane', which is closed\n" in first.status
