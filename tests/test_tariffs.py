"""Tariffs: when a change begins, what becomes of one still to come, and that no slot which has begun ever gets other rates."""

import json

import pytest
from desk import Desk
from fleet import UNIX_S
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from agent.decode import decode
from agent.events import Save, SetTariff
from agent.settlement import KEEP_S
from agent.tariffs import CLOCK_S, LEAD_S, begins_s, change, pending, rates_at, timeline
from agent.wire import MAX_PAST

DAY = 20_780
M = DAY * 86_400  # 2026-11-23T00:00:00Z
FIRST = {
    "import_u": 300_000,
    "export_u": 80_000,
    "floor_u": 80_000,
    "cap_u": 300_000,
    "currency": "EUR",
    "slot_s": 900,
    "rule": "mmr",
}


def tariff(**keys):
    return wire.Tariff(**FIRST | {"version": 1} | keys)


def changed(record, at, by="me", **wanted):
    """The record after a change, as every node reads it."""
    keys = change(record, SetTariff(**wanted), by, at)
    return decode(wire.place("grid/network/tariff"), wire.encode(keys))


def at(text, day=0):
    hours, minutes = map(int, text.split(":"))
    return M + day * 86_400 + hours * 3600 + minutes * 60


def shown(unix_s):
    days, left = divmod(int(unix_s) - M, 86_400)
    return f"{left // 3600:02}:{left % 3600 // 60:02}" + (f"+{days}" if days else "")


def refusal(record, unix_s, **wanted):
    with pytest.raises(ValueError, match=r"\. [A-Z]|nothing to change") as info:  # a way out, or that none is needed
        change(record, SetTariff(**wanted), "me", unix_s)
    return str(info.value)


# when a change begins

# now, slot length in force, what is changed, the first moment of the new rates
BEGINS = [
    ("10:07", 900, {"import_u": 310_000}, "10:45"),  # two slots: 10:37, so that slot
    ("10:00", 900, {"import_u": 310_000}, "10:30"),
    ("10:07", 60, {"import_u": 310_000}, "10:17"),  # ten minutes are more than two slots
    ("10:07", 3600, {"import_u": 310_000}, "13:00"),
    ("23:40", 900, {"export_u": 90_000}, "00:15+1"),
    ("10:07", 900, {"slot_s": 300}, "00:00+1"),
    ("23:40", 900, {"slot_s": 300}, "00:00+1"),  # twice 300 s are 23:50
    ("23:51", 900, {"slot_s": 300}, "00:00+2"),
    ("23:40", 900, {"slot_s": 3600}, "00:00+2"),
    ("10:07", 900, {"currency": "CHF"}, "00:00+1"),
    ("10:07", 900, {"rule": "vwm"}, "10:45"),
    ("10:07", 900, {"cap_u": 900_000, "from_s": at("10:30")}, "10:30"),
    ("10:20", 900, {"cap_u": 900_000, "from_s": at("10:30")}, "10:30"),
    ("10:07", 900, {"currency": "CHF", "slot_s": 1800, "from_s": at("00:00", 3)}, "00:00+3"),
]


@pytest.mark.parametrize(("now", "slot_s", "wanted", "begins"), BEGINS)
def test_when_a_change_begins(now, slot_s, wanted, begins):
    old = tariff(slot_s=slot_s)
    new = changed(old, at(now), **wanted)
    assert shown(begins_s(new.rates)) == begins
    assert new.from_slot * new.slot_s == begins_s(new.rates)
    assert new.past == [old.rates]
    assert {name: getattr(new, name) for name in FIRST} == FIRST | {"slot_s": slot_s} | {
        name: value for name, value in wanted.items() if name != "from_s"
    }


def test_the_keys_of_the_record():
    keys = change(tariff(version=7), SetTariff(import_u=310_000), "mill", at("10:07"))
    rates = {**FIRST, "from": 0}
    assert list(keys.items()) == [
        *(FIRST | {"import_u": 310_000}).items(),
        ("from", (M + 38_700) // 900),
        ("past", [rates]),
        ("by", "mill"),
        ("at", "2026-11-23T10:07:00Z"),
        ("version", 8),
    ]


REFUSED = [
    ({}, "that is the tariff already: there is nothing to change"),
    ({"import_u": 300_000, "from_s": at("20:00")}, "that is the tariff already: there is nothing to change"),
    ({"import_u": 70_000}, "the export rate is above the import rate, so that buying to sell would pay. Lower it"),
    ({"rule": "auction"}, "there is no rule 'auction'. Take one of mmr, vwm, sdr, fixed"),
    ({"rule": "sdr", "export_u": 2999}, "sdr needs an export rate above 0 and of 1 % of the import rate or more"),
    ({"floor_u": 300_001}, "the floor is above the cap, so that no price lies between them. Lower the floor or raise the cap"),
    ({"slot_s": 45}, "a slot cannot be 45 s long. Take 1, 5, 10, 15, 30 or 60 minutes"),
    ({"slot_s": 7200}, "a slot cannot be 7200 s long"),
    ({"slot_s": 1320}, "a slot cannot be 1320 s long"),  # no whole number of them in a day
    ({"currency": "euro"}, "'euro' is no currency. Write three capital letters"),
    ({"cap_u": 1_000_000, "from_s": at("10:07")}, "2026-11-23T10:07:00Z is too soon: every node has to hear of it before. Take"),
    ({"cap_u": 1_000_000, "from_s": at("10:15")}, "Take 2026-11-23T10:30:00Z or later"),
    ({"cap_u": 1_000_000, "from_s": 0}, "1970-01-01T00:00:00Z is too soon"),
    (
        {"cap_u": 1_000_000, "from_s": at("11:05")},
        "2026-11-23T11:05:00Z: no slot begins there. Take 2026-11-23T11:00:00Z or 2026-11-23T11:15:00Z",
    ),
    (
        {"slot_s": 300, "from_s": at("12:00")},
        "2026-11-23T12:00:00Z is too soon: every node has to hear of it before. Take 2026-11-24T00:00:00Z",
    ),
    (
        {"currency": "CHF", "from_s": at("12:00", 1)},
        "another slot length or currency begins with a day (UTC). Take 2026-11-24T00:00:00Z or 2026-11-25T00:00:00Z",
    ),
]


@pytest.mark.parametrize(("wanted", "why"), REFUSED)
def test_what_is_refused_says_what_to_do(wanted, why):
    assert why in refusal(tariff(), at("10:07"), **wanted)


def test_a_clock_that_lost_its_time_changes_nothing():
    assert refusal(tariff(), 4000.0, import_u=310_000).startswith("this node's clock says 1970-01-01T01:06:40Z, so")
    assert changed(tariff(), CLOCK_S, import_u=310_000).version == 2


# one after the other


def test_rates_at_and_what_is_to_come():
    first = tariff()
    second = changed(first, at("10:07"), import_u=310_000)
    assert rates_at(None, at("10:07")) is None
    assert rates_at(second, at("10:45") - 1) == first.rates
    assert rates_at(second, at("10:45")).import_u == 310_000
    assert (pending(second, at("10:44")), pending(second, at("10:45"))) == ([second.rates], [])
    third = changed(second, at("12:00"), by="mill", slot_s=300, export_u=90_000)
    assert (third.by, third.version) == ("mill", 3)
    assert third.past == [second.rates, first.rates]
    assert [rates_at(third, moment).slot_s for moment in (at("10:00"), at("23:59"), at("00:00", 1))] == [900, 900, 300]
    assert rates_at(tariff(from_slot=5), 4499) is None


def test_a_change_still_to_come_is_replaced_or_taken_back():
    first = tariff()
    second = changed(first, at("10:07"), import_u=310_000, from_s=at("00:00", 5))
    third = changed(second, at("10:20"), export_u=90_000)
    assert (third.import_u, third.export_u, third.past, third.version) == (300_000, 90_000, [first.rates], 3)
    assert shown(begins_s(third.rates)) == "11:00"
    back = changed(third, at("10:30"), export_u=80_000)
    assert (back.rates, back.past, back.version) == (first.rates, [], 4)
    assert refusal(back, at("10:30"), export_u=80_000).startswith("that is the tariff already")


def test_a_change_that_begins_in_some_minutes_stands():
    first = tariff()
    second = changed(first, at("10:07"), import_u=310_000)  # from 10:45 on
    third = changed(second, at("10:36"), export_u=90_000)
    assert third.past == [second.rates, first.rates]
    assert (third.import_u, shown(begins_s(third.rates))) == (310_000, "11:15")
    assert [rates.import_u for rates in pending(third, at("10:36"))] == [310_000, 310_000]
    assert [rates.export_u for rates in pending(third, at("10:36"))] == [80_000, 90_000]
    still = changed(second, at("10:35"), export_u=90_000)
    assert (still.import_u, still.past) == (300_000, [first.rates])


def test_a_first_tariff_still_to_come_is_replaced():
    first = tariff(from_slot=(M + 86_400) // 900)
    second = changed(first, at("10:07"), import_u=310_000)
    assert (second.import_u, second.past, shown(begins_s(second.rates))) == (310_000, [], "10:45")
    assert "nothing to change" in refusal(first, at("10:07"), import_u=300_000)


def test_rates_that_no_slot_needs_any_more_are_let_go_and_no_others():
    record = tariff()
    for number in range(1, MAX_PAST + 1):
        record = changed(record, at(f"{number:02}:00"), import_u=300_000 + number)
    assert len(record.past) == MAX_PAST
    # the first rates ended at 01:30; a slot of theirs can be settled for three days, and one slot to be sure
    why = refusal(record, at("12:00"), import_u=400_000)
    expected = "8 earlier tariffs are still to be settled by, the most that the record holds. Wait until 2026-11-26T01:45:00Z"
    assert why == expected
    assert "Wait until" in refusal(record, at("01:44", 3), import_u=400_000)
    assert len(changed(record, at("01:45", 3), import_u=400_000).past) == MAX_PAST
    assert len(changed(record, at("12:00", 9), import_u=400_000).past) == 1
    # to take back what is to come needs no room
    last = changed(record, at("01:45", 3), import_u=400_000)
    assert changed(last, at("01:46", 3), import_u=300_008).past == record.past[:-1]


minutes = st.integers(1, 60 * 24 * 2)
wanted = st.fixed_dictionaries(
    {},
    optional={
        "import_u": st.integers(200_000, 400_000),
        "export_u": st.integers(0, 200_000),
        "cap_u": st.integers(300_000, 500_000),
        "slot_s": st.sampled_from([60, 300, 900, 3600]),
        "currency": st.sampled_from(["EUR", "CHF"]),
        "rule": st.sampled_from(["mmr", "vwm", "fixed"]),
        "from_s": st.integers(-2, 40).map(lambda quarter: quarter * 900),
    },
)


@given(st.lists(st.tuples(minutes, wanted), max_size=12), st.lists(st.integers(0, 3 * 86_400), min_size=3, max_size=12))
def test_a_slot_that_has_begun_keeps_its_rates_through_every_later_record(steps, back):
    now, record = float(M), tariff()
    made = []
    for step, keys in steps:
        now += step * 60
        if "from_s" in keys:
            keys["from_s"] += int(now) // 900 * 900
        try:
            new = changed(record, now, **keys)
        except ValueError:
            continue
        assert (new.version, len(new.past) <= MAX_PAST) == (record.version + 1, True)
        begins = [begins_s(rates) for rates in timeline(new)]
        assert begins == sorted(set(begins), reverse=True)
        assert all(begins_s(rates) % rates.slot_s == 0 for rates in timeline(new))
        if new.past:
            # whoever hears of it within LEAD_S reckons every slot alike, before it and after it
            for moment in (now + LEAD_S - 1, *(now - s for s in back)):
                assert rates_at(new, moment) == rates_at(record, moment)
        made.append((now, new))
        record = new
    for told_s, old in made:
        for later_s, new in made:
            if later_s >= told_s:
                for moment in (told_s - s for s in back):
                    if moment > later_s - KEEP_S:
                        assert rates_at(new, moment) == rates_at(old, moment)


@given(st.integers(0, 86_400), wanted)
def test_days_never_have_slots_of_two_lengths_or_two_currencies(second, keys):
    keys.pop("from_s", None)
    try:
        new = changed(tariff(), M + second, **keys)
    except ValueError:
        return
    (old,) = new.past
    if (new.slot_s, new.currency) != (old.slot_s, old.currency):
        assert begins_s(new.rates) % 86_400 == 0


# the ask


def test_the_record_goes_out_is_kept_and_is_the_answer():
    desk = Desk()
    desk.wait(11.0)  # what the start had to keep is kept
    answer = desk.ask(SetTariff(import_u=310_000))
    assert json.loads(desk.told["grid/network/tariff"]) == answer
    assert (answer["import_u"], answer["by"], answer["version"]) == (310_000, "me", 2)
    assert answer["past"] == [{"import_u": 300_000, "export_u": 80_000, "floor_u": 0, "cap_u": 1_000_000} | rest(answer)]
    assert answer["from"] * 900 >= UNIX_S + 1800
    assert desk.node.tariff.import_u == 310_000
    assert any(isinstance(effect, Save) and effect.name == "records" for effect in desk.wait(11.0))
    assert json.loads(Desk(kept=desk.kept).told["grid/network/tariff"]) == answer


def rest(answer):
    return {name: answer[name] for name in ("currency", "slot_s", "rule")} | {"from": 0}


def test_what_cannot_be_done_is_an_answer():
    desk = Desk()
    before = desk.told["grid/network/tariff"]
    assert (
        desk.ask(SetTariff(import_u=300_000))["error"] == "the tariff stays: that is the tariff already: there is nothing to change"
    )
    assert desk.told["grid/network/tariff"] == before
    held = json.loads(before)
    desk.hear("$grid/in/b/network/tariff", json.dumps(held | {"version": 2**32}).encode())
    desk.hear("$grid/in/b/network/tariff", json.dumps(held | {"version": 2**33}).encode())
    assert desk.ask(SetTariff(import_u=310_000))["version"] == 2**33 + 1
    lost = Desk()
    lost.node.book.drop("network", "tariff")
    lost.hear("$grid/in/b/network/tariff", json.dumps(held | {"version": wire.MAX_VERSION}).encode())
    assert lost.ask(SetTariff(import_u=310_000))["error"] == "the tariff stays: version out of range"
