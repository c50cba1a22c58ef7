"""What Mosquitto is told: at whose door it listens, who may do what, how one link is made."""

import pytest

from agent import broker_conf
from agent.events import Bridge


def lines(text: str, word: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(word)]


@pytest.mark.parametrize(
    ("bind", "hosts"),
    [
        ("0.0.0.0", ["0.0.0.0"]),
        ("::", ["::"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("localhost", ["127.0.0.1"]),
        ("192.0.2.7", ["127.0.0.1", "192.0.2.7"]),  # the agent and local readers come by the loopback
    ],
)
def test_an_open_node_listens_where_it_is_told_and_on_its_own_machine(bind, hosts):
    text = broker_conf.main("/d", 1884, bind, None, None)
    assert lines(text, "listener ") == [f"listener 1884 {host}" for host in hosts]
    assert lines(text, "user ") == []
    assert lines(text, "include_dir ") == ["include_dir /d/bridges"]
    assert lines(broker_conf.main("/d", 1884, bind, "root", None), "user ") == ["user root"]


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.7"])
@pytest.mark.parametrize("read_port", [None, 1885])
def test_a_closed_one_listens_to_others_by_tls_and_for_readers_alone(bind, read_port):
    text = broker_conf.main("/d", 1884, bind, None, broker_conf.siblings_port("/d", "/t", 8884, bind, read_port))
    listeners = [part.splitlines() for part in text.split("listener ")[1:]]
    assert [rows[0] for rows in listeners] == ["1884 127.0.0.1", f"8884 {bind}", *([f"1885 {bind}"] if read_port else [])]
    assert "require_certificate true" in listeners[1]
    assert "use_identity_as_username true" in listeners[1]
    assert "cafile /t/ca.pem" in listeners[1]
    assert "cafile" not in "".join(listeners[0])
    assert lines(text, "acl_file ") == ["acl_file /d/acl"]
    assert lines(text, "password_file ") == ["password_file /d/passwords"]


def rights(text: str) -> dict[str, list[str]]:
    """By user ("" without a name); patterns are everybody's with a certificate."""
    found: dict[str, list[str]] = {"": [], "pattern": []}
    user = ""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "user":
            user = rest
        elif word == "pattern":
            found["pattern"].append(rest)
        elif word == "topic":
            found.setdefault(user, []).append(rest)
    return found


def test_who_may_do_what():
    read = ["read grid/#", "read $SYS/#", "deny $SYS/broker/log/#"]
    command = "write $grid/set/+/+"
    found = rights(broker_conf.access(["q", "b"], None))
    assert found == {
        "": [*read, command],
        "_agent": ["readwrite #", "readwrite $grid/#", "read $SYS/#"],
        "_person": [*read, command],
        "b": ["deny #", "deny $grid/#"],
        "q": ["deny #", "deny $grid/#"],
        "pattern": ["write $grid/in/%u/#", "read grid/node/#", "read grid/network/#"],
    }
    # with a port for readers, who comes without a name may be anywhere
    assert rights(broker_conf.access([], 1885))[""] == read
    assert rights(broker_conf.access([], 1885))["_person"] == [*read, command]
    assert broker_conf.access({"q", "b"}, None) == broker_conf.access(["b", "q"], None)  # an unchanged file is not written


def test_a_link_carries_our_records_there_and_theirs_here():
    link = Bridge("y", "y.local", 1885)
    text = broker_conf.bridge("x", link, "grid/sibling/", None)
    assert lines(text, "connection ") == ["connection x-y"]
    assert lines(text, "address ") == ["address y.local:1885"]
    assert lines(text, "remote_clientid ") == ["remote_clientid x"]
    assert lines(text, "notification_topic ") == ["notification_topic grid/sibling/y"]
    assert lines(text, "topic ") == [
        "topic # out 1 grid/node/ $grid/in/x/",
        "topic # in 1 $grid/in/y/ grid/node/",
        "topic # out 1 grid/network/ $grid/in/x/network/",
        "topic # in 1 $grid/in/y/network/ grid/network/",
    ]
    assert lines(text, "bridge_cafile") == []
    sealed = broker_conf.bridge("x", link, "grid/sibling/", "/t")
    assert lines(sealed, "bridge_cafile") == ["bridge_cafile /t/ca.pem"]
    assert lines(sealed, "bridge_keyfile") == ["bridge_keyfile /t/node.key"]
