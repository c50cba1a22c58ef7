"""A network split into halves, in network namespaces: one node leaves in one half, all brokers restart, the halves meet again."""

import json

import pytest
from conftest import Survived
from live import RATED_W, agreed
from netns import CUBE, a_lan
from patience import wait_until, within
from witness import Witness

HEAL_S = (
    12.0  # the limit stated for agreement after healing: a bridge's reconnection (2.4 s, TCP's own delays up to 7) and a resync
)


@pytest.fixture
def lan(tmp_path):
    with a_lan(tmp_path) as lan:
        yield lan


def test_a_node_leaves_in_one_half_while_the_other_still_counts_on_it(lan, survived):
    pis = lan.network(CUBE, a=-1000, b=-3000, c=2000, d=-500, e=5000, f=-1500, g=-300, h=-200)
    a, b, c, d, *right = pis
    left = [a, b, c]
    with Witness(lan) as witness:
        lan.split(*"efgh")
        assert d.ask("leave")["network"] is True
        half = lan.agree(left, heard=3)
        # 2000 W given, 4000 W taken: (2000 * 0.19 + 2000 * 0.30) / 4000 = 0.245
        assert (half["net_w"], half["price_u"], half["sell_u"]) == (-2000, 245_000, 190_000)
        assert (half["heard"], half["nodes"], half["partial"], half["members"]) == (3, 7, True, ["a", "b", "c"])
        assert (half["low_w"], half["high_w"]) == (-2000 - 4 * RATED_W, -2000 + 4 * RATED_W)
        half = lan.agree(right, heard=4)
        # 5000 W given, 2000 W taken: (2000 * 0.19 + 3000 * 0.08) / 5000 = 0.124; nobody here has heard that d left
        assert (half["net_w"], half["price_u"], half["sell_u"]) == (3000, 190_000, 124_000)
        assert (half["heard"], half["nodes"], half["partial"], half["members"]) == (4, 8, True, ["e", "f", "g", "h"])

        for pi in pis:
            pi.kill("broker")
            pi.start_broker()
        wait_until(lambda: all(pi.held("grid/summary") for pi in pis), 10, "all brokers are up again")
        lan.agree(left, heard=3)
        lan.agree(right, heard=4)
        assert all(pi.held("grid/node/d/state") for pi in right)
        # its links stay up for a grace, then it forgets the network that it left
        wait_until(lambda: d.status()["summary"]["nodes"] == 1, 20, d.status)

        lan.heal()
        others = [*left, *right]
        agree_s = within(30, lambda: agreed(others, 1000), lambda: [pi.status() for pi in pis])
        whole = agreed(others, 1000)
        # 7000 W given, 6000 W taken: (6000 * 0.19 + 1000 * 0.08) / 7000 = 0.1742857..., rounded down for those who give
        assert (whole["price_u"], whole["sell_u"], whole["nodes"], whole["partial"]) == (190_000, 174_285, 7, False)
        wait_until(lambda: not any(ghosts(pi, "d") for pi in others), 30, lambda: {pi.name: ghosts(pi, "d") for pi in others})
        wait_until(lambda: not any(ghosts(d, pi.id) for pi in others), 30, lambda: {pi.name: ghosts(d, pi.id) for pi in others})
        assert lan.agree(others)["members"] == list("abcefgh")
        assert d.status()["summary"]["members"] == ["d"]
    wait_until(lambda: all(d.relation()[pi.id] == pi.relation()["d"] for pi in (c, right[3], a)), 5, "the same at both ends")
    assert d.relation() == {"a": 2, "c": 2, "h": 2}
    assert agree_s < HEAL_S
    lost = lan.lost(others)
    survived(Survived("partition 4|4, a node leaves, brokers restart", 8, 2 + len(pis), lost, len(witness.wrong), agree_s))


def ghosts(pi, id_):
    """What this broker still says of a node that left, but for the word that it did."""
    held = pi.held("$grid/in/#", "grid/#")
    found = {topic: payload for topic, payload in held.items() if id_ in topic.split("/")}
    return {
        topic: payload
        for topic, payload in found.items()
        if not (topic.endswith(f"{id_}/info") and json.loads(payload).get("left")) and not topic.startswith(f"grid/sibling/{id_}")
    }
