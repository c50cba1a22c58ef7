"""The table of records: newest wins, per topic, byte for byte."""

import random

import pytest

from agent import records, wire
from agent.records import Book, Verdict, digest
from agent.wire import WireError


def info(version: int, more: str = "") -> bytes:
    return b'{"version":%d,"place":"%s"}' % (version, more.encode())


def take(book: Book, topic: str, payload: bytes) -> Verdict:
    verdict, held = book.judge(wire.place(topic), payload)
    if verdict is Verdict.NEWER:
        book.keep(held)
    return verdict


def test_newer_same_older():
    book = Book()
    assert take(book, "grid/node/a/info", info(5)) is Verdict.NEWER
    assert take(book, "grid/node/a/info", info(5)) is Verdict.SAME
    assert take(book, "grid/node/a/info", info(4)) is Verdict.OLDER
    assert take(book, "grid/node/a/info", info(6)) is Verdict.NEWER
    held = book.get("a", "info")
    assert held is not None
    assert (held.payload, held.record.version, held.place.topic) == (info(6), 6, "grid/node/a/info")
    assert held.hash == digest(info(6))
    assert len(held.hash) == 16


def test_each_topic_is_a_register_of_its_own():
    book = Book()
    for topic in ("grid/node/a/info", "grid/node/a/forecast/odd", "grid/node/b/info", "grid/network/revoked/a"):
        assert take(book, topic, info(5)) is Verdict.NEWER
    assert book.get("a", "forecast/even") is None
    assert book.get("c", "info") is None
    assert len(list(book.all())) == 4


def test_equal_versions_with_other_bytes_do_not_stay_split():
    one, other = info(5, "one"), info(5, "other")
    first, last = sorted([one, other], key=digest)
    for order in ([one, other], [other, one]):
        book = Book()
        for payload in order:
            take(book, "grid/node/a/info", payload)
        assert book.get("a", "info").payload == last
    assert take(book, "grid/node/a/info", first) is Verdict.OLDER


def test_a_jump_that_nobody_counted():
    book = Book()
    take(book, "grid/node/a/info", info(7))
    assert take(book, "grid/node/a/info", info(7 + 2**32)) is Verdict.NEWER
    with pytest.raises(WireError, match=r"^version jumped more than 2\^32$"):
        book.judge(wire.place("grid/node/a/info"), info(8 + 2**33))
    assert take(Book(), "grid/node/a/info", info(2**53)) is Verdict.NEWER


def test_a_wrong_payload_changes_nothing():
    book = Book()
    take(book, "grid/node/a/info", info(5))
    with pytest.raises(WireError):
        take(book, "grid/node/a/info", b'{"version":"6"}')
    assert book.get("a", "info").payload == info(5)


def test_any_order_any_number_of_copies_one_end():
    payloads = [info(version, more) for version in range(20) for more in ("x", "y")]
    tables = set()
    for seed in range(5):
        dice, book = random.Random(seed), Book()
        arriving = payloads + dice.sample(payloads, 10)
        dice.shuffle(arriving)
        for payload in arriving:
            take(book, "grid/node/a/info", payload)
        tables.add(book.table())
        assert book.get("a", "info").record.version == 19
    assert len(tables) == 1


def test_the_table_is_over_the_slow_records_only():
    state = b'{"net_w":null,"produced_w":null,"consumed_w":null,"quality":"absent","zone":"z","rated_w":1,"version":%d}'
    book, tables = Book(), []
    tables.append(book.table())
    take(book, "grid/node/a/info", info(1))
    tables.append(book.table())
    take(book, "grid/node/a/state", state % 1)
    take(book, "grid/node/a/state", state % 2)
    assert book.table() == tables[-1]
    assert [held.place.kind for held in book.slow()] == ["info"]
    take(book, "grid/node/b/info", info(1))
    tables.append(book.table())
    take(book, "grid/node/b/info", info(2))
    tables.append(book.table())
    take(book, "grid/network/revoked/b", info(2))
    tables.append(book.table())
    assert len(set(tables)) == len(tables)
    assert all(len(text) == 12 for text in tables)
    other = Book()
    for topic, payload in [("grid/network/revoked/b", info(2)), ("grid/node/b/info", info(2)), ("grid/node/a/info", info(1))]:
        take(other, topic, payload)
    assert other.table() == book.table()


def test_dropping():
    book = Book()
    take(book, "grid/node/a/info", info(1))
    empty = Book().table()
    assert book.table() != empty
    take(book, "grid/node/a/later", info(1))
    assert book.drop("a", "nothing") is None
    assert book.drop("b", "info") is None
    assert book.drop("a", "later").payload == info(1)
    assert list(book.nodes) == ["a"]
    assert book.drop("a", "info") is not None
    assert book.nodes == {}
    assert book.table() == empty


def test_room(monkeypatch):
    monkeypatch.setattr(records, "MAX_NODES", 3)
    monkeypatch.setattr(records, "MAX_KINDS", 2)
    monkeypatch.setattr(records, "MAX_NETWORK", 4)
    book = Book()
    for topic in ("grid/node/a/info", "grid/node/a/one", "grid/node/b/info", "grid/network/tariff2"):
        take(book, topic, info(1))
    with pytest.raises(WireError, match=r"^more than 3 nodes$"):
        take(book, "grid/node/c/info", info(1))
    with pytest.raises(WireError, match=r"^too many kinds of record$"):
        take(book, "grid/node/a/two", info(1))
    for kind in ("x", "y", "z"):
        take(book, f"grid/network/{kind}", info(1))
    with pytest.raises(WireError, match=r"^too many kinds of record$"):
        take(book, "grid/network/w", info(1))
    assert take(book, "grid/node/a/one", info(2)) is Verdict.NEWER  # what is known may go on changing


def test_the_limits_fit_a_pi():
    assert (records.MAX_NODES, records.MAX_KINDS, records.MAX_NETWORK) == (10_000, 16, 4_096)
