"""The net: sums by hand, and additions that never differ from adding all up again."""

import random

from hypothesis import given
from hypothesis import strategies as st

from agent.net import Net, Share, mark


def share(produced_w: int, consumed_w: int, name: str = "a", version: int = 1) -> Share:
    return Share(produced_w, consumed_w, mark(name, version, b"h"))


def test_by_hand():
    net = Net()
    net.count("a", share(585, 2160, "a"))  # -1575
    net.count("b", share(3000, 685, "b"))  # +2315
    net.count("c", share(400, 400, "c"))
    net.widen("d", 1000)
    net.widen("e", 50)
    assert (net.produced_w, net.consumed_w, net.net_w) == (3985, 3245, 740)
    assert (net.supply_w, net.demand_w) == (2315, 1575)
    assert (net.low_w, net.high_w) == (740 - 1050, 740 + 1050)
    assert (net.heard, net.nodes) == (3, 5)


def test_a_node_is_counted_once_as_what_it_is_last():
    net = Net()
    net.count("a", share(100, 0))
    net.count("a", share(0, 30, version=2))
    assert (net.net_w, net.supply_w, net.demand_w, net.heard) == (-30, 0, 30, 1)
    net.widen("a", 500)
    assert (net.net_w, net.demand_w, net.low_w, net.high_w, net.heard, net.nodes) == (0, 0, -500, 500, 0, 1)
    net.widen("a", 700)
    assert (net.unknown_w, net.nodes) == (700, 1)
    net.count("a", share(5, 0, version=3))
    assert (net.net_w, net.unknown_w, net.nodes) == (5, 0, 1)
    net.drop("a")
    net.drop("a")
    assert net == Net()


changes = st.lists(
    st.tuples(st.sampled_from("abcde"), st.sampled_from(["count", "widen", "drop"]), st.integers(0, 10**9), st.integers(0, 10**9)),
    max_size=60,
)


@given(changes)
def test_additions_equal_a_new_sum(steps):
    net, counted, wide = Net(), {}, {}
    for version, (node, what, one, other) in enumerate(steps):
        counted.pop(node, None)
        wide.pop(node, None)
        match what:
            case "count":
                counted[node] = (one, other, version)
                net.count(node, share(one, other, node, version))
            case "widen":
                wide[node] = one
                net.widen(node, one)
            case _:
                net.drop(node)
        produced_w, consumed_w = sum(p for p, _, _ in counted.values()), sum(c for _, c, _ in counted.values())
        assert (net.produced_w, net.consumed_w, net.net_w) == (produced_w, consumed_w, produced_w - consumed_w)
        assert net.supply_w == sum(p - c for p, c, _ in counted.values() if p > c)
        assert net.demand_w == sum(c - p for p, c, _ in counted.values() if c > p)
        assert net.supply_w - net.demand_w == net.net_w
        assert (net.low_w, net.high_w) == (net.net_w - sum(wide.values()), net.net_w + sum(wide.values()))
        assert (net.heard, net.nodes) == (len(counted), len(counted) + len(wide))
    again = Net()
    for node, (one, other, version) in sorted(counted.items(), reverse=True):
        again.count(node, share(one, other, node, version))
    assert again.digest(b"t") == net.digest(b"t")


def test_the_digest_knows_no_order():
    shares = [(f"n{number}", share(number, 0, f"n{number}", number)) for number in range(50)]
    digests = set()
    for seed in range(5):
        random.Random(seed).shuffle(shares)
        net = Net()
        for node, its in shares:
            net.count(node, its)
        digests.add(net.digest(b"tariff", b"zone"))
    assert len(digests) == 1


def test_the_digest_tells_apart_what_differs():
    def digest(*marks: bytes, context: tuple[bytes, ...] = (b"tariff", b"zone", b"")) -> str:
        net = Net()
        for number, its in enumerate(marks):
            net.count(str(number), Share(0, 0, its))
        return net.digest(*context)

    one = mark("a", 1, b"h")
    seen = [
        digest(),
        digest(one),
        digest(mark("b", 1, b"h")),
        digest(mark("a", 2, b"h")),
        digest(mark("a", 1, b"i")),
        digest(one, one),
        digest(one, context=(b"tariff2", b"zone", b"")),
        digest(one, context=(b"tariff", b"zone2", b"")),
        digest(one, context=(b"tariffzone", b"", b"")),
        digest(one, context=(b"", b"tariffzone", b"")),
    ]
    assert len(set(seen)) == len(seen)
    assert all(len(text) == 16 for text in seen)


def test_marks_sort_by_version_as_a_number():
    assert mark("a", 9, b"h") < mark("a", 10, b"h") < mark("a", 2**53, b"h") < mark("b", 1, b"h")
