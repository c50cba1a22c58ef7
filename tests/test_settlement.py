"""settlement.py: when a slot is settled, from which records, and what late ones change."""

import random

import msgspec
from parts import DAY, K, T, record, tariff

from agent import wire
from agent.accounts import entries, posted
from agent.decode import decode
from agent.edges import Edges
from agent.isle import Island, Want
from agent.price import Prices
from agent.settlement import AGAIN_S, KEEP_S, LATE_S, MOST, Settlement


class Desk:
    """One node's settlement, and the records that it holds."""

    def __init__(self, *nodes):
        self.settlement, self.held, self.members = Settlement("z"), {}, nodes
        self.now = 0.0

    def hear(self, node, new):
        kind = wire.energy_kind(new.day)
        self.settlement.heard(self.held.get((node, kind)), new)
        self.held[node, kind] = new

    def look(self, unix_s, of=None, again=True):
        self.now += AGAIN_S if again else 0.0
        records = [(node, held) for (node, _), held in self.held.items()]
        return self.settlement.look(records, self.members, of or (lambda slot: tariff()), unix_s, self.now)


def test_a_slot_is_settled_some_seconds_after_its_end_and_again_when_a_record_comes_late():
    desk = Desk("a", "b", "c")
    assert desk.look(T + 950) == []
    desk.hear("a", record([0, 50]))
    desk.hear("b", record([7, 7], [0, 100], flags={"0": "clock"}))
    assert desk.look(T + 900 + LATE_S - 1) == []
    (first,) = desk.look(T + 900 + LATE_S)
    assert first.uses == {"a": (50, 0), "b": (0, 100)}
    assert (first.revision, first.missing, first.flags) == (0, {"c": "no record"}, {"b": "clock"})
    assert desk.look(T + 950) == []
    desk.hear("c", record([0, 49]))
    assert len(desk.look(T + 955)) == 1
    desk.hear("c", record([0, 50]))
    assert not desk.settlement.due(desk.now)
    assert desk.look(T + 956, again=False) == []  # not at every record
    assert desk.settlement.due(desk.now + AGAIN_S)
    (second,) = desk.look(T + 965)
    assert (second.revision, second.missing, second.uses["c"]) == (2, {}, (50, 0))
    assert desk.settlement.heads[K] == (2, second.digest, Prices(19, 19), "mmr/1", 3, 0, False)
    desk.hear("c", record([0, 50], flags={"0": "partial"}))  # nothing that enters the money
    assert desk.look(T + 970) == []
    assert desk.settlement.signal(K + 2) == desk.settlement.heads[K]
    assert desk.settlement.signal(K + 1) is None


MILL = {"export_wh": [0, 104], "wanted_wh": [0, 0], "avail_wh": [40, 190], "feeder": {"0": "generator"}}


def test_an_island_s_slot_is_settled_as_one_and_its_price_changes_with_a_late_record():
    desk = Desk("a", "mill")
    desk.hear("a", record([0, 100], wanted_wh=[7, 147], avail_wh=[0, 0]))
    desk.hear("mill", record([0, 0], rated_w=500, **MILL))
    (first,) = desk.look(T + 950)
    assert (first.island, first.rule, first.buy_u) == (Island(140, 150, False), "island/1", 44)  # 10 + 40 * (14 / 15 - 0.6) / 0.4
    assert entries(first) == {"a": -4400, "mill": 4576, "grid": 0, "pool": -176}
    assert (desk.settlement.signal(K + 2).prices, desk.settlement.signal(K + 2).island) == (Prices(44, 44), True)
    desk.hear("pv", record([0, 0], [0, 60], wanted_wh=[0, 1], avail_wh=[0, 85]))
    (second,) = desk.look(T + 970)
    assert (second.revision, second.island, second.buy_u) == (1, Island(141, 235, False), 10)
    assert sum(posted(first, second).values()) == 0
    desk.hear("pv", record([0, 0], [0, 60], wanted_wh=[0, 1], avail_wh=[0, 85], flags={"0": "shed"}))
    (third,) = desk.look(T + 990)
    assert (third.revision, third.buy_u, third.flags) == (2, 50, {"pv": "shed"})
    desk.hear("pv", record([0, 0], [0, 60], feeder={"0": "grid"}))
    (fourth,) = desk.look(T + 1010)
    assert (fourth.revision, fourth.island, fourth.rule) == (3, None, "mmr/1")


def test_what_was_wanted_is_kept_as_the_rest_when_its_record_has_made_room():
    desk = Desk()
    desk.hear("a", record([0, 100], wanted_wh=[7, 147], avail_wh=[0, 0]))
    desk.hear("mill", record([0, 0], **MILL))
    (first,) = desk.look(T + 950)
    for node in ("a", "mill"):
        desk.hear(node, record([900, 950], day=DAY + 2))
    desk.hear("b", record([0, 10], wanted_wh=[0, 10], avail_wh=[0, 0]))
    found = {settled.slot: settled for settled in desk.look(T + 2 * 86_400 + 950)}
    assert found[K].island == Island(150, 150, False)
    assert found[K].wants == first.wants | {"b": Want(10, 0, "", False)}
    assert found[K + 192].island is None


def test_what_does_not_count_is_shown_and_taken_out_again():
    desk = Desk("a", "b")
    desk.hear("a", record([0, 50]))
    desk.hear("b", record([0, 60], rated_w=1000))
    assert desk.look(T + 950)[0].uses == {"a": (50, 0), "b": (60, 0)}
    desk.hear("b", record([0, 6000], rated_w=1000))
    (settled,) = desk.look(T + 960)
    assert (settled.revision, settled.uses, settled.missing) == (1, {"a": (50, 0)}, {"b": "more than its rating"})
    assert sum(posted(None, settled).values()) == 0


def test_a_part_once_told_stays_when_its_record_has_made_room_and_what_is_final_is_corrected_in_the_open_slot():
    desk = Desk()
    desk.hear("a", record([0, 50]))
    assert len(desk.look(T + 950)) == 1
    desk.hear("a", record([900, 950], day=DAY + 2))  # takes the place of its day in the topic
    desk.hear("b", record([0, 30]))  # comes two days late
    found = {settled.slot: settled for settled in desk.look(T + 2 * 86_400 + 950)}
    assert found.keys() == {K, K + 192}
    assert found[K].uses == {"a": (50, 0), "b": (30, 0)}
    assert (found[K].revision, found[K].booked) == (1, K + 193)
    assert found[K + 192].uses == {"a": (50, 0)}


def test_a_slot_of_which_nobody_told_anything_is_not_settled():
    desk = Desk("a", "b")
    desk.hear("a", record([9, 5]))
    assert desk.look(T + 950) == []
    assert desk.settlement.dirty == set()
    desk.hear("b", record([5, 5]))
    (settled,) = desk.look(T + 960)
    assert (settled.uses, settled.missing) == ({"b": (0, 0)}, {"a": "registers fall"})


def test_records_of_other_zones_slots_and_times_change_nothing():
    desk = Desk()
    desk.hear("a", record([0, 50], zone="far"))
    assert desk.settlement.dirty == set()
    desk.hear("b", record([0, 50], slot_s=300))
    desk.hear("c", record([0, 50], day=DAY + 400))
    assert desk.look(T + 950) == []
    assert desk.settlement.dirty == set()  # none of them can ever be a slot of this tariff
    desk.hear("d", record([0, 50], day=DAY - 40))
    while desk.settlement.dirty:
        assert desk.look(T + 950) == []
    desk.hear("e", record([0, 50]))
    desk.hear("e", record([0, 50], zone="far"))  # moved: what it told here stays
    assert desk.settlement.heads == {}
    assert desk.look(T + 950) == []


def test_a_tariff_that_is_not_there_or_not_known_is_waited_for_and_each_slot_has_its_own():
    desk = Desk()
    desk.hear("a", record([0, 50, 100]))
    assert desk.look(T + 1850, of=lambda slot: None) == []
    assert desk.look(T + 1850, of=lambda slot: tariff(rule="auction")) == []
    found = desk.look(T + 1850, of=lambda slot: tariff(import_u=40) if slot > K else tariff())
    assert {settled.slot: settled.buy_u for settled in found} == {K: 30, K + 1: 40}


def test_a_whole_day_is_settled_a_few_slots_at_a_time_the_newest_first():
    desk = Desk()
    desk.hear("a", record(list(range(0, 485, 5))))
    for number in range(MOST // 32 - 1):
        desk.hear(f"n{number}", record([], day=DAY - 2))
    looks = [desk.look(T + 86_400 + 30) for _ in range(3)]
    assert [len(found) for found in looks] == [32] * 3
    assert [settled.slot for found in looks for settled in found] == list(range(K + 95, K - 1, -1))
    assert desk.look(T + 86_400 + 60) == []
    desk.hear("a", record([0, 5], day=DAY + 4))
    assert desk.look(T + 4 * 86_400 + 950)[0].slot == K + 4 * 96
    assert desk.settlement.heads.keys() == {K + 4 * 96}  # what no record can change any more is let go
    assert KEEP_S < 4 * 86_400


def test_after_a_restart_the_same_records_make_no_new_revision():
    desk = Desk()
    desk.hear("a", record([0, 50, 60]))
    rows = desk.look(T + 1850)
    again = Desk()
    other = msgspec.structs.replace(rows[0], zone="far", slot=K + 50)
    again.settlement.load([*rows, other])
    assert again.settlement.heads == desk.settlement.heads
    again.hear("a", record([0, 50, 60]))
    assert again.look(T + 1850) == []
    again.hear("a", record([0, 51, 60]))
    assert [settled.revision for settled in again.look(T + 1850)] == [1, 1]


def test_two_halves_settle_for_themselves_and_after_healing_alike():
    """Each island over whom it hears; the healing is an entry of its own and both end with the same digest."""
    records = {"a": record([0, 50]), "b": record([0, 0], [0, 80]), "c": record([0, 20]), "d": record([0, 0], [0, 5])}
    left, right = Desk(*records), Desk(*records)
    for node in "ab":
        left.hear(node, records[node])
    for node in "cd":
        right.hear(node, records[node])
    (one,), (two,) = left.look(T + 950), right.look(T + 950)
    assert one.digest != two.digest
    assert (sorted(one.missing), sorted(two.missing)) == (["c", "d"], ["a", "b"])
    for node in "cd":
        left.hear(node, records[node])
    for node in "ba":
        right.hear(node, records[node])
    (one_healed,), (two_healed,) = left.look(T + 7000), right.look(T + 7000)
    assert one_healed.digest == two_healed.digest
    assert entries(one_healed) == entries(two_healed)
    assert (one_healed.revision, one_healed.missing) == (1, {})
    assert sum(posted(one, one_healed).values()) == 0


def test_from_the_meters_of_four_houses_to_their_accounts_by_records_in_any_order():
    """Two hours at 5 s: one house's agent is cut off for a while, another's meter does not count."""
    watts = {"a": 1200, "b": 400, "power": 800, "pv": -3200}
    houses = {node: Edges(17_250, 900) for node in watts}
    desks = [Desk(*watts) for _ in range(3)]
    chance = random.Random(5)
    waiting = []
    for second in range(-60, 7500, 5):
        for node, edges in houses.items():
            if node == "b" and 1500 < second < 4000:
                continue  # its meter counts on
            counted = (
                None
                if node == "power"
                else {"m": (max(0, watts[node]) * (second + 60) // 3600, max(0, -watts[node]) * (second + 60) // 3600)}
            )
            for day in edges.sample(counted, -watts[node], T + second, True, second + 100.0):
                if (keys := edges.keys(day, "z")) is not None:
                    payload = wire.encode(keys | {"version": second + 100})
                    new = decode(wire.place(wire.node_topic(node, wire.energy_kind(day))), payload)
                    waiting += [(second + chance.randrange(200), number, node, new) for number in range(3)]
        for entry in sorted(waiting, key=lambda entry: entry[:3]):
            if entry[0] <= second:
                waiting.remove(entry)
                held = desks[entry[1]].held.get((entry[2], wire.energy_kind(entry[3].day)))
                if held is None or held.version < entry[3].version:
                    desks[entry[1]].hear(entry[2], entry[3])
        for desk in desks:
            desk.look(T + second)
    heads = [{slot: head.digest for slot, head in desk.settlement.heads.items()} for desk in desks]
    assert heads[0] == heads[1] == heads[2]
    assert heads[0].keys() == set(range(K, K + 8))
    # 300, 100 and 200 Wh taken, 800 given: sellers (19*600 + 8*200) / 800 = 16.25, down; b's gap lies on its counter's line
    assert {head.prices for head in desks[0].settlement.heads.values()} == {Prices(19, 16)}
    assert {head.missing for head in desks[0].settlement.heads.values()} == {0}
