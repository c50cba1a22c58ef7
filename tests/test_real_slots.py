"""Slots of a minute on real nodes: one price everywhere, through a kill -9 in the middle of one, and ledgers that agree."""

import json

import pytest
from live import Grid
from patience import wait_until

SLOT_MIN = 1


@pytest.mark.timeout(300)
def test_real_nodes_settle_alike_and_their_ledgers_agree(tmp_path):
    watts = {"mill": -5000, "barn": 7500, "oak": -900}
    with Grid(tmp_path) as grid:
        nodes = [grid.node(id_, net_w, start=False) for id_, net_w in watts.items()]
        for node in nodes:
            node.configure(f"[tariff]\nslot_min = {SLOT_MIN}\n")
            node.start()
        for node in nodes:
            wait_until(node.status, 20, node.log)
        for left, right in zip(nodes[1:], nodes, strict=False):
            wait_until(lambda a=left, b=right: a.cli("join", f"127.0.0.1:{b.port}").returncode == 0, 20, "join")
        grid.agree(nodes, sum(watts.values()), 3)

        def settled():
            """Of the newest slot that all have settled with all three nodes: its summary entry, by node."""
            said = [node.status().get("summary", {}).get("settled") for node in nodes]
            return said if all(one and one["nodes"] == 3 for one in said) and len({one["slot"] for one in said}) == 1 else None

        first = wait_until(settled, 150, lambda: [node.status().get("summary") for node in nodes])
        assert len({(one["digest"], one["buy_u"], one["sell_u"]) for one in first}) == 1
        assert (first[0]["buy_u"], first[0]["missing"]) == (190_000, 0)

        nodes[0].kill_agent()  # in the middle of a slot, a second or two after what is settled was told
        nodes[0].start_agent()
        slot = first[0]["slot"]
        last = wait_until(lambda: (now := settled()) and now[0]["slot"] > slot and now, 90, lambda: nodes[0].status())
        assert len({one["digest"] for one in last}) == 1
        signals = wait_until(
            lambda: (
                len({(said := node.status()["summary"])["signal_u"] for node in nodes}) == 1
                and said["signal_u"] is not None
                and said["price_u"] == said["signal_u"]
            ),
            90,
            lambda: [node.status() for node in nodes],
        )
        assert signals

        books = []
        for node in nodes:
            done = node.cli("audit", "--json")
            assert done.returncode == 0, done.stderr
            books.append({row["slot"]: row for row in json.loads(done.stdout)["slots"]})
            assert {sum(row["entries"].values()) for row in books[-1].values()} == {0}
        both = set.intersection(*map(set, books)) & {slot, last[0]["slot"]}
        assert both == {slot, last[0]["slot"]}  # what was settled before the kill is still there
        for number in both:
            newest = [book[number] for book in books]
            assert len({(row["digest"], row["price_buy_u"], row["price_sell_u"]) for row in newest}) == 1
