"""The audit's sums: to which day a correction belongs, every day's sum is zero, money as text."""

import pytest
from audited import DAY, K, M, slot
from hypothesis import given
from hypothesis import strategies as st

from agent import audit as core
from agent.accounts import entries, revise


def test_a_correction_belongs_to_the_day_that_begins_with_the_slot_in_which_it_is_booked():
    rows = [slot(-1, {"oak": (1, 0)}), slot(-1, {"oak": (2, 0)}, revision=1, booked=K)]
    assert [len(core.audit(rows, M + n * 86_400, M + (n + 1) * 86_400).corrections) for n in (-1, 0, 1)] == [0, 1, 0]


uses = st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=3)


@given(st.lists(st.tuples(st.integers(0, 5), uses, st.integers(1, 300)), max_size=12))
def test_over_all_days_the_entries_are_the_newest_revision_s_and_every_day_s_sum_is_zero(steps):
    rows, newest, clock = [], {}, 0
    for number, parts, hours in steps:
        clock += hours
        revised = revise(newest.get(number), slot(number, parts), K + 6 + clock)
        if revised is not None:
            newest[number] = revised
            rows.append(revised)
    books, days = {}, 0
    for day in range(DAY, DAY + 42):
        found = core.audit(rows, day * 86_400, (day + 1) * 86_400)
        made = list(core.lines(found))
        assert found.problems == []
        assert sum(line.nano for line in made) == 0
        assert sum(total.nano for total in core.totals(made).values()) == 0
        for line in made:
            books[line.account] = books.get(line.account, 0) + line.nano
        days += len(found.books)
    last = {}
    for row in newest.values():
        for name, nano in entries(row).items():
            last[name] = last.get(name, 0) + nano
    assert ({n: v for n, v in books.items() if v}, days) == ({n: v for n, v in last.items() if v}, len(newest))


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0.00"), (1, "0.000000001"), (-1_250_000, "-0.00125"), (2_500_000_000, "2.50"), (-(10**27), f"-{10**18}.00")],
)
def test_money(nano, text):
    assert core.money_text(nano) == text
    assert core.money_texts([nano, 1])[1] == "0.000000001"
    assert core.money_texts([]) == []
