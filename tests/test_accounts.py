"""accounts.py: what every node owes or is owed for a slot, by hand and for any nodes; revisions, replay and differences."""

import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parts import GEN, USES, K, tariff

from agent import wire
from agent.accounts import Settled, account, differ, digest, entries, is_final, posted, replay, revise, settle
from agent.isle import Island, Want
from agent.price import RULES

# rule, uses, buy, sell, accounts. Import 30, export 8, so that mmr's middle is 19.
BY_HAND = [
    # S = 100, D = 200: buyers (19*100 + 30*100) / 200 = 24.5, up to 25; the grid gets 100 * 30, the pool 200 * 0.5
    ("mmr", USES, 25, 19, {"a": -1250, "b": -3750, "pv": 1900, "grid": 3000, "pool": 100}),
    # the other way: sellers (19*100 + 8*100) / 200 = 13.5, down to 13; the grid pays 100 * 8
    ("mmr", {"a": (0, 50), "b": (0, 150), "c": (100, 0)}, 19, 13, {"a": 650, "b": 1950, "c": -1900, "grid": -800, "pool": 100}),
    ("mmr", {"a": (0, 70), "b": (70, 0)}, 19, 19, {"a": 1330, "b": -1330, "grid": 0, "pool": 0}),
    ("mmr", {"a": (40, 60)}, 19, 15, {"a": 140, "grid": -160, "pool": 20}),  # one house, both ways: 60 * 15 - 40 * 19
    ("mmr", {"a": (5, 0)}, 30, 19, {"a": -150, "grid": 150, "pool": 0}),  # nobody produces
    ("mmr", {"a": (0, 5)}, 19, 8, {"a": 40, "grid": -40, "pool": 0}),  # nobody consumes
    ("mmr", {"a": (0, 0), "b": (0, 0)}, 30, 8, {"a": 0, "b": 0, "grid": 0, "pool": 0}),
    ("mmr", {}, 30, 8, {"grid": 0, "pool": 0}),  # nobody at all
    # m = (30*200 + 8*100) / 300 = 22.67; buyers 26.33, up; sellers down
    ("vwm", USES, 27, 22, {"a": -1350, "b": -4050, "pv": 2200, "grid": 3000, "pool": 200}),
    # m = 12.63; buyers 21.3, up; sellers down
    ("sdr", USES, 22, 12, {"a": -1100, "b": -3300, "pv": 1200, "grid": 3000, "pool": 200}),
    ("fixed", USES, 30, 8, {"a": -1500, "b": -4500, "pv": 800, "grid": 5200, "pool": 0}),  # the grid deals with each
    ("mmr", {"grid": (10, 0), "pool": (0, 10)}, 19, 19, {"node/grid": -190, "node/pool": 190, "grid": 0, "pool": 0}),
]


@pytest.mark.parametrize(("rule", "uses", "buy_u", "sell_u", "accounts"), BY_HAND)
def test_by_hand(rule, uses, buy_u, sell_u, accounts):
    settled = settle(K, "z", uses, tariff(rule=rule))
    assert (settled.buy_u, settled.sell_u, settled.rule) == (buy_u, sell_u, f"{rule}/1")
    assert entries(settled) == accounts
    assert sum(accounts.values()) == 0
    assert (settled.slot, settled.zone, settled.revision, settled.booked, settled.island) == (K, "z", 0, K, None)
    assert posted(None, settled) == {name: nano for name, nano in accounts.items() if nano}
    assert replay(settled) == ""


def test_negative_rates():
    settled = settle(K, "z", USES, tariff(import_u=-10, export_u=-20))
    assert (settled.buy_u, settled.sell_u) == (-12, -15)  # (-15*100 - 10*100) / 200 = -12.5, up
    assert entries(settled) == {"a": 600, "b": 1800, "pv": -1500, "grid": -1000, "pool": 100}


ISLE = USES | {"gen": (0, 104)}


def test_an_island_has_one_price_and_no_grid_and_its_losses_are_seen():
    # wanted 60 + 145 + 5 + 0, available 0 + 0 + 150 + 150: 0.7, so 10 + 40 * 0.1 / 0.4
    wants = {"a": Want(60, 0, "", False), "b": Want(145, 0, "", False), "pv": Want(5, 150, "", False), "gen": GEN}
    settled = settle(K, "z", ISLE, tariff(), wants)
    assert settled.island == Island(210, 300, False)
    assert (settled.buy_u, settled.sell_u, settled.rule) == (20, 20, "island/1")
    assert entries(settled) == {"a": -1000, "b": -3000, "gen": 2080, "pv": 2000, "grid": 0, "pool": -80}  # 4 Wh more given
    assert replay(settled) == ""
    assert settle(K, "z", ISLE, tariff(), wants | {"b": Want(145, 0, "", True)}).buy_u == 50  # something was shed
    assert settle(K, "z", ISLE, tariff(), wants | {"b": Want(236, 0, "", False)}).island == Island(301, 300, True)
    assert settle(K, "z", ISLE, tariff(), wants | {"a": Want(30, 0, "", False)}).buy_u == 10  # 0.6


WANTS = {"a": Want(60, 0, "", False), "gen": GEN}
NO_ISLE = [  # which wants make no island of a slot
    {},
    {"a": Want(60, 0, "", False)},  # nobody says what forms the grid
    WANTS | {"b": Want(None, None, "grid", False)},  # it cannot hang on both
    WANTS | {"gen": GEN._replace(feeder="")},  # it became one in between
    WANTS | {"gen": GEN._replace(feeder="grid")},
    WANTS | {"gen": Want(None, None, "generator", False)},  # what it could have made nobody knows
    {"a": Want(60, 0, "", False), "x": GEN},  # whose own part does not count
]


@pytest.mark.parametrize("wants", NO_ISLE)
def test_slots_that_are_no_island_s(wants):
    settled = settle(K, "z", ISLE, tariff(), wants)
    assert (settled.island, settled.rule, settled.digest) == (None, "mmr/1", settle(K, "z", ISLE, tariff()).digest)
    assert replay(settled) == ""


def test_who_does_not_say_what_it_wanted_is_taken_for_what_it_took_and_gave():
    assert settle(K, "z", ISLE, tariff(), {"gen": GEN}).island == Island(50 + 150, 100 + 150, False)
    assert settle(K, "z", ISLE, tariff(), {"gen": GEN, "a": Want(None, None, "", True)}).island == Island(200, 250, True)


def test_in_an_island_somebody_may_be_worse_off_than_with_a_grid_alone():
    """No grid is there: the price runs from floor to cap, whatever one would have charged or paid."""
    dear = settle(K, "z", ISLE, tariff(), {"gen": GEN._replace(avail_wh=10)})
    assert dear.buy_u == 50  # of a grid it were 30
    assert entries(dear)["a"] < -50 * 30
    cheap = settle(K, "z", ISLE, tariff(floor_u=1), {"gen": GEN._replace(avail_wh=1000)})
    assert entries(cheap)["pv"] == 100 * 1 < 100 * 8


def test_a_rule_of_a_later_version():
    assert settle(K, "z", USES, tariff(rule="auction")) is None


def test_accounts_that_everybody_shares_are_no_node_s():
    assert [account(node) for node in ("a", "grid", "pool")] == ["a", "node/grid", "node/pool"]
    assert not wire.ID.fullmatch("node/grid")


rates = st.one_of(
    st.tuples(st.integers(-5, 20), st.integers(0, 20)), st.tuples(st.integers(-(10**12), 10**12), st.integers(0, 10**12))
)

wh = st.one_of(st.integers(0, 3), st.integers(0, 5000), st.integers(0, wire.MAX_WH))

houses = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.tuples(wh, wh), max_size=8)


@given(st.sampled_from(sorted(RULES)), houses, rates)
def test_accounts_sum_to_zero_nobody_is_worse_off_than_alone_and_the_pool_keeps_only_what_rounding_left(rule, uses, pair):
    export_u, import_u = pair[0], pair[0] + pair[1]
    settled = settle(K, "z", uses, tariff(rule=rule, import_u=import_u, export_u=export_u))
    books = entries(settled)
    assert sum(books.values()) == 0
    for node, (taken, given_) in uses.items():
        assert books[node] >= given_ * export_u - taken * import_u
    assert 0 <= books["pool"] <= sum(taken + given_ for taken, given_ in uses.values())
    assert replay(settled) == ""


wanting = st.builds(
    lambda both, fed, shed: Want(*(both or (None, None)), fed, shed),
    st.one_of(st.none(), st.tuples(wh, wh)),
    st.sampled_from(["", "", "generator", "generator", "grid"]),
    st.booleans(),
)


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.tuples(wh, wh, st.none() | wanting), max_size=8), rates, rates)
def test_an_island_s_accounts_sum_to_zero_in_any_order_between_floor_and_cap(nodes, pair, span):
    uses = {node: (taken, given_) for node, (taken, given_, _) in nodes.items()}
    wants = {node: want for node, (_, _, want) in nodes.items() if want is not None}
    here = tariff(import_u=pair[0] + pair[1], export_u=pair[0], floor_u=span[0], cap_u=span[0] + span[1])
    settled = settle(K, "z", uses, here, wants)
    books = entries(settled)
    assert sum(books.values()) == 0
    assert replay(settled) == ""
    turned = settle(K, "z", dict(reversed(uses.items())), here, dict(reversed(wants.items())))
    assert msgspec.json.encode(turned) == msgspec.json.encode(settled)
    kinds = {want.feeder for want in wants.values()} - {""}
    if settled.island is None:
        assert kinds != {"generator"} or all(want.wanted_wh is None for want in wants.values() if want.feeder)
        return
    assert kinds == {"generator"}
    assert here.floor_u <= settled.buy_u == settled.sell_u <= here.cap_u
    assert books["grid"] == 0
    assert books["pool"] == settled.buy_u * (sum(taken for taken, _ in uses.values()) - sum(given_ for _, given_ in uses.values()))
    if settled.island.shed:
        assert settled.buy_u == here.cap_u


@given(houses, houses)
def test_a_revision_s_own_entry_leads_from_the_old_accounts_to_the_new_and_sums_to_zero(old, new):
    before, after = settle(K, "z", old, tariff()), settle(K, "z", new, tariff())
    change = posted(before, after)
    assert sum(change.values()) == 0
    assert all(change.values())
    books = entries(before)
    for name, nano in change.items():
        books[name] = books.get(name, 0) + nano
    assert {n: v for n, v in books.items() if v} == {n: v for n, v in entries(after).items() if v}


@given(houses, st.randoms(use_true_random=False))
def test_the_order_of_the_nodes_is_nothing(uses, chance):
    order = list(uses.items())
    chance.shuffle(order)
    assert msgspec.json.encode(settle(K, "z", dict(order), tariff())) == msgspec.json.encode(settle(K, "z", uses, tariff()))


def test_the_digest_stands_for_everything_that_enters_the_money():
    settled = settle(K, "z", USES, tariff())
    changes = [("slot", K + 1), ("slot_s", 300), ("zone", "y"), ("rule", "mmr/2"), ("currency", "CHF"), ("import_u", 31)]
    changes += [("export_u", 7), ("floor_u", 11), ("cap_u", 51), ("island", Island(1, 2, shed=False))]
    changes += [("uses", USES | {"a": (51, 0)}), ("uses", USES | {"a": (50, 1)}), ("uses", USES | {"x": (0, 0)}), ("uses", {})]
    others = {digest(msgspec.structs.replace(settled, **{name: value})) for name, value in changes}
    assert len(others | {settled.digest}) == len(changes) + 1
    isle = settle(K, "z", ISLE, tariff(), WANTS)
    for want in (Want(61, 0, "", False), Want(60, 1, "", False), Want(60, 0, "generator", False), Want(60, 0, "", True)):
        assert digest(msgspec.structs.replace(isle, wants=WANTS | {"a": want})) != isle.digest
    for name, value in (("revision", 3), ("booked", K + 9), ("missing", {"x": "no record"}), ("flags", {"a": "partial"})):
        assert digest(msgspec.structs.replace(settled, **{name: value})) == settled.digest
    assert len(settled.digest) == 32


def test_what_was_changed_in_a_store_comes_out():
    settled = settle(K, "z", USES, tariff())
    change = msgspec.structs.replace
    assert replay(change(settled, uses=USES | {"a": (49, 0)})) == "its parts do not give its digest"
    assert replay(change(settled, buy_u=24)) == "its parts give the prices 25 and 19"
    isle = settle(K, "z", ISLE, tariff(), WANTS)
    assert replay(change(isle, buy_u=24)) == f"its parts give the prices {isle.sell_u} and {isle.sell_u}"
    for wrong in (change(isle, island=Island(1, 2, False)), change(isle, island=None), change(settled, island=Island(1, 2, False))):
        assert replay(change(wrong, digest=digest(wrong))) == "its parts do not give its island"
    other = change(settled, rule="mmr/9")
    assert replay(change(other, digest=digest(other))) == "this version does not know the rule 'mmr' in its version '9'"
    other = change(settled, rule="auction/1")
    assert "auction" in replay(change(other, digest=digest(other)))


def test_where_two_stores_differ():
    one = settle(K, "z", USES, tariff())
    other = settle(K, "z", {"a": (51, 0), "b": (150, 0), "c": (0, 1)}, tariff(import_u=31))
    assert differ(one, one) == {}
    assert differ(one, other) == {"import_u": (30, 31), "a": ((50, 0), (51, 0)), "c": (None, (0, 1)), "pv": ((0, 100), None)}
    isle, again = settle(K, "z", ISLE, tariff(), WANTS), settle(K, "z", ISLE, tariff(), WANTS | {"a": Want(61, 0, "", False)})
    assert isle.island is not None
    assert again.island is not None
    assert differ(isle, again) == {
        "island": (isle.island, again.island),
        "a, island": (Want(60, 0, "", False), Want(61, 0, "", False)),
    }


def test_revisions_and_corrections():
    first = settle(K, "z", {"a": (50, 0)}, tariff())
    late = settle(K, "z", {"a": (50, 0), "pv": (0, 50)}, tariff())
    assert revise(None, first, K + 1) == first
    assert revise(first, settle(K, "z", {"a": (50, 0)}, tariff()), K + 2) is None
    again = revise(first, late, K + 96)  # 23 h 45 min after its end
    assert (again.revision, again.booked, again.digest) == (1, K, late.digest)
    correction = revise(again, settle(K, "z", {"a": (50, 0), "pv": (0, 60)}, tariff()), K + 97)
    assert (correction.slot, correction.revision, correction.booked) == (K, 2, K + 97)
    # 50 met inside at 19, 10 over at 8: sellers (950 + 80) / 60 = 17.17, down to 17
    assert posted(again, correction) == {"pv": 60 * 17 - 50 * 19, "grid": -80, "pool": 10}
    assert (is_final(K, 900, K + 96), is_final(K, 900, K + 97), is_final(K, 3600, K + 25)) == (False, True, True)


# the node's own settling


FRESH = """
import random, sys, msgspec
from agent.accounts import entries, settle
from agent.wire import Tariff
uses = [(f"n{i}", (i * 37 % 900, i * 53 % 400)) for i in range(500)]
random.Random(int(sys.argv[1])).shuffle(uses)
for rule in ("mmr", "vwm", "sdr", "fixed"):
    tariff = Tariff(version=1, import_u=300001, export_u=80003, floor_u=0, cap_u=9, currency="EUR", slot_s=900, rule=rule)
    settled = settle(1920000, "main", dict(uses), tariff)
    print(msgspec.json.encode(settled).decode(), msgspec.json.encode(entries(settled)).decode())
"""


def test_shuffled_and_in_a_fresh_interpreter_with_another_hash_seed_the_bytes_are_the_same():
    root = Path(__file__).resolve().parent.parent
    told = set()
    for seed in ("0", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", FRESH, seed]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=True)
        told.add(done.stdout)
    assert len(told) == 1
    uses = {f"n{i}": (i * 37 % 900, i * 53 % 400) for i in range(500)}
    order = list(uses)
    random.Random(7).shuffle(order)
    mine = settle(K, "main", {n: uses[n] for n in order}, tariff(import_u=300_001, export_u=80_003, floor_u=0, cap_u=9))
    assert told.pop().startswith(f"{msgspec.json.encode(mine).decode()} {msgspec.json.encode(entries(mine)).decode()}\n")
    assert mine.digest == msgspec.json.decode(msgspec.json.encode(mine), type=Settled).digest
