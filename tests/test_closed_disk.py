"""A closed network on one node's disk: whether it is in one, its broker's secrets, whom it joins, what an open life left behind."""

import json
import time
from base64 import b64encode

import pytest
from desk import Desk, state
from fleet import UNIX_S
from seals import Realm

from agent import authority, broker_conf, closed, private, root, wire
from agent.events import Leave
from agent.seal import SealError
from agent.wire import place

FILE = """\
[node]
id = "oak"
rated_w = 1000
{node}
[mqtt]
{mqtt}
[network]
join = ["mill", "10.0.0.5:1885", "barn:1883"]
[state]
dir = "."
"""


@pytest.fixture
def house(tmp_path):
    """A node's configuration, made with these more lines."""

    def make(node="", mqtt=""):
        path = tmp_path / "grid.toml"
        path.write_text(FILE.format(node=node, mqtt=mqtt))
        return root.load(path)

    return make


def create(config):
    authority.create(config.state.dir / closed.TRUST, "Oak Street", config.node.id, None, time.time())


def test_who_is_in_a_closed_network(house):
    config = house()
    trust = config.state.dir / closed.TRUST
    assert not closed.is_closed(config)
    assert closed.load(config) is None
    assert closed.token(config) is None
    create(config)
    assert closed.is_closed(config)
    assert closed.load(config).member.network == "Oak Street"
    for name in ("ca.pem", "node.pem"):  # damaged or half gone: it does not go on as an open one
        kept = (trust / name).read_bytes()
        (trust / name).unlink()
        assert closed.is_closed(config)
        with pytest.raises(SealError):
            closed.load(config)
        (trust / name).write_bytes(kept)
    (trust / private.PENDING).write_bytes(b"{")
    with pytest.raises(SealError, match="pending is damaged"):
        closed.load(config)


def test_its_certificate_and_its_configuration_name_one_node(house, tmp_path):
    create(house())
    (tmp_path / "grid.toml").write_text((tmp_path / "grid.toml").read_text().replace('"oak"', '"elm"'))
    with pytest.raises(SealError, match=r"'oak', and .* calls it 'elm': they must be one"):
        closed.load(root.load(tmp_path / "grid.toml"))


def test_the_brokers_secrets_are_made_once_and_again_when_damaged(house):
    config = house()
    create(config)
    path = config.state.dir / closed.TRUST / closed.SECRETS
    first = closed.load(config).secrets
    assert path.stat().st_mode & 0o777 == 0o600
    assert closed.load(config).secrets == first
    assert closed.token(config) == first.token
    assert repr(first) == "<secrets>"
    path.write_bytes(b"{")
    again = closed.load(config).secrets
    assert again.password != first.password
    assert again.token != first.token
    users = closed.load(config).broker(8883, None).passwords.splitlines()
    assert users[0] == broker_conf.password_line("_agent", again.password).strip()
    assert users[1] == broker_conf.password_line("_person", again.token).strip()


def test_where_no_port_is_written_a_closed_node_joins_by_tls(house):
    config = house()
    assert root.settings(config).join == ("mill:1883", "10.0.0.5:1885", "barn:1883")
    create(config)
    (config.state.dir / closed.TRUST / authority.JOIN).write_text('["192.0.2.7:8884", "mill:8883"]')
    joined = root.settings(config, closed.load(config)).join
    assert joined == ("mill:8883", "10.0.0.5:1885", "barn:1883", "192.0.2.7:8884")


@pytest.mark.parametrize(
    ("written", "opened", "sealed"),
    [
        ('address = "oak.local"', "oak.local:1883", "oak.local:8884"),  # the other port is for that machine alone
        ('address = "oak.local:9000"', "oak.local:9000", "oak.local:9000"),
        ("", None, None),
    ],
)
def test_a_closed_node_tells_others_its_port_for_tls(house, written, opened, sealed):
    config = house(written, "tls_port = 8884")
    assert root.settings(config).address == opened
    create(config)
    assert root.settings(config, closed.load(config)).address == sealed


# what an open life, or one with another key, left in the records


REALM = Realm("test", "oak")
ENERGY = {"day": int(UNIX_S // 86_400), "slot_s": 900, "edges": 3, "import_wh": [7], "export_wh": [0], "zone": "z", "version": 9}
KIND = wire.energy_kind(ENERGY["day"])


def lived(trust=None):
    """What a node kept that met b and has registers."""
    desk = Desk("oak", trust=trust)
    desk.meet("b", 500)
    topic = f"grid/node/oak/{KIND}"
    payload = json.dumps(ENERGY, separators=(",", ":")).encode()
    desk.hear(f"$grid/in/b/oak/{KIND}", trust.sign(topic, payload, False) if trust is not None else payload)
    desk.wait(11.0)
    assert desk.node.book.get("oak", KIND) is not None
    return desk.kept


def test_what_was_kept_while_the_network_was_open_is_no_forgery_and_our_own_is_signed():
    kept = lived()
    assert len(json.loads(kept["records"])) >= 5
    desk = Desk("oak", kept=kept, trust=REALM.trust("oak"))
    assert "store" not in desk.alerts
    assert desk.node.book.nodes.keys() == {"oak", "network"}  # nobody vouches for the others
    seal = REALM.seal("oak")
    for held in desk.node.book.all():
        assert seal.verify(seal.key, held.place.topic, held.payload), held.place
    assert desk.node.book.get("oak", KIND).record.import_wh == [7]
    assert f"grid/node/oak/{KIND}" in desk.told
    # and the next start finds all as it must be
    desk.wait(11.0)
    again = Desk("oak", kept=desk.kept, trust=REALM.trust("oak"))
    assert "store" not in again.alerts
    assert again.node.book.get("oak", KIND).record.import_wh == [7]


def test_what_strangers_said_of_us_while_it_was_open_is_not_signed():
    desk = Desk("oak")
    desk.meet("b", 500)
    desk.hear("$grid/in/b/oak/junk", b'{"version":3}')
    desk.ask(Leave(None))  # then it makes a network of its own, and whoever joins it is welcome
    huge = json.dumps(ENERGY | {"x": ""}, separators=(",", ":")).encode()
    huge = huge.replace(b'"x":"', b'"x":"' + b"y" * (wire.MAX_PAYLOAD - len(huge)))  # no room for a signature
    rows = [*json.loads(desk.kept["records"]), [f"grid/node/oak/{KIND}", b64encode(huge).decode()]]
    sealed = Desk("oak", kept=desk.kept | {"records": json.dumps(rows).encode()}, trust=REALM.trust("oak"))
    assert "store" not in sealed.alerts
    assert sealed.node.book.nodes["oak"].keys() == {"state", "info"}
    assert not sealed.node.left


def test_with_another_key_our_own_past_is_signed_again():
    other = Realm("test", "oak")
    kept = lived(other.trust("oak"))
    assert place(f"grid/node/oak/{KIND}").topic in kept["records"].decode()
    new = other.seals["oak"] = other.seal("oak", run=2)
    desk = Desk("oak", kept=kept, trust=other.trust("oak"))
    assert "store" not in desk.alerts
    held = desk.node.book.get("oak", KIND)
    assert new.verify(new.key, held.place.topic, held.payload)
    assert held.record.import_wh == [7]


def test_what_a_stranger_signed_on_our_disk_is_told():
    kept = lived(REALM.trust("oak"))
    rows = json.loads(kept["records"])
    stranger = REALM.seal("c")
    forged = [["grid/node/c/state", b64encode(stranger.sign("grid/node/d/state", state(4, 9))).decode()]]
    desk = Desk("oak", kept=kept | {"records": json.dumps(rows + forged).encode()}, trust=REALM.trust("oak"))
    assert "1 refused" in desk.alerts["store"]
