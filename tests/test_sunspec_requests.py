"""SunSpec: what a poll asks for: a model where it was, in pieces of what a device takes, or the frequency alone."""

from itertools import count

import pytest
from steps import drive
from test_sunspec import ACME, COMMON, chain, read, run

from drivers.reading import MeterError
from drivers.sunspec import SIZES, fetch, find, frequency, measure, points, register
from drivers.sunspec_image import Part, common, image
from drivers.sunspec_models import LAYOUTS, MODULES_ID


def test_a_model_that_moved_never_gives_its_place_to_another():
    before = image([common(ACME), Part(203, {"w": 100}), Part(201, {"w": 7})])
    (model,) = run(find("meter"), before)
    others = {
        "another of the same length": [common(ACME), Part(201, {"w": 7}), Part(203, {"w": 100})],
        "another length": [common(ACME), Part(203, {"w": 100}, length=107)],
        "a longer model before it": [common(ACME), Part(103, length=51), Part(203, {"w": 100})],
    }
    for words in map(image, others.values()):
        with pytest.raises(MeterError, match="is not at 40070 any more"):
            run(fetch(model, 125), words)
    with pytest.raises(MeterError, match="refused"):
        run(fetch(model, 125), {})


@pytest.mark.parametrize("most", [125, 124, 60, 50, 30, 20])
@pytest.mark.parametrize("id_", sorted(set(LAYOUTS) - {MODULES_ID}))
def test_a_device_that_wants_small_requests_is_read_in_pieces(id_, most):
    values = {point.name: i + 1 for i, point in enumerate(LAYOUTS[id_].points)}
    values |= {"pf": 0.5} if "pf" in values else {}
    assert read(image([common(ACME), Part(id_, values)]), most=most).values == values


def test_no_value_is_cut_in_two_and_a_device_that_takes_nothing_is_refused():
    words = image([common(ACME), Part(701, {"import_wh": 2**40})])
    (model,) = run(find(None), words)
    for most in SIZES:
        log = []
        run(fetch(model, most), words, log=log)
        cuts = {at - 40070 for at, _ in log} | {at + count - 40070 for at, count in log}
        for point in points(model):
            assert not cuts & set(range(point.at + 1, register(model, point).end))
    log = []
    with pytest.raises(MeterError, match="refused; its models are looked for again"):
        run(fetch(model, 125), words, most=5, log=log)
    assert len(log) == len(SIZES)


def scripted(steps, answers):
    """What comes of the steps when the n-th request goes to the device answers(n), or is refused for None."""
    asked = count()

    def answer(block):
        words = answers(next(asked))
        return words and [words[at] for at in range(block.address, block.address + block.count)]

    return drive(steps, answer)


def test_pieces_changed_or_refused_meanwhile_are_no_reading():
    """701 in requests of 50 is 0-47, 64-113 and 114-122: as all have a scale factor or the header, each is read three times."""
    one = image([common(ACME), Part(701, {"w": -1230}, {"w": 1})])
    two = image([common(ACME), Part(701, {"w": -456}, {"w": 0})])
    (model,) = run(find(None), one)
    for change in range(10):
        words, _ = scripted(fetch(model, 50), lambda n, change=change: one if n < change else two)
        assert measure([(model, words)]).values == ({"w": -1230} if change == 9 else {"w": -456})
    with pytest.raises(MeterError, match="scale factors change while it is read"):
        scripted(fetch(model, 50), lambda n: (one, two)[n // 3 % 2])
    log = []
    run(fetch(model, 20), one, log=log)
    for refused in range(len(log)):
        with pytest.raises(MeterError, match="refused"):
            scripted(fetch(model, 20), lambda n, refused=refused: None if n == refused else one)


# the frequency alone

HZ_ALONE = [
    (103, 14 + 2, 1),  # Hz at 16, its scale factor behind it
    (203, 16, 1),
    (213, 26, 2),
    (701, 17, 2),  # its scale factor is at 115, far from it: what the last whole read said
]


@pytest.mark.parametrize(("id_", "at", "count"), HZ_ALONE)
def test_the_frequency_alone_is_one_small_request(id_, at, count):
    words = image([common(ACME), Part(id_, {"hz": 50.12})])
    (model,) = run(find(None if id_ in (203, 213) else "inverter"), words)
    looked, _ = run(fetch(model, 125), words)
    log = []
    other = image([common(ACME), Part(id_, {"hz": 49.5})])
    assert run(frequency(model, looked), other, log=log) == 49.5
    assert log == [(40070 + at, count)]
    for hz in (12.0, 65.53, 71.0):
        shown = run(frequency(model, looked), image([common(ACME), Part(id_, {"hz": hz})]))
        assert shown == (None if not 40 <= hz <= 70 else hz)
    assert run(frequency(model, looked), image([common(ACME), Part(id_)])) is None  # not available
    with pytest.raises(MeterError, match=f"model {id_} at 40070: refused; its models are looked for again"):
        run(frequency(model, looked), chain(COMMON))


def test_a_model_without_a_frequency_says_none():
    words = image([common(ACME), Part(713, {"soc_pct": 50})])
    (model,) = run(find("storage"), words)
    assert frequency(model, run(fetch(model, 125), words)[0]) is None
