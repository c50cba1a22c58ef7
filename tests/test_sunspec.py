"""SunSpec: the walk and the numbers, by hand."""

import struct

import pytest
from steps import drive

from drivers.reading import MeterError
from drivers.sunspec import BASES, fetch, find, measure, walk, which_for
from drivers.sunspec_image import Part, common, image
from drivers.sunspec_models import LAYOUTS, MODULES_ID, QUIRKS

ACME = "Acme"


def run(steps, words, most=125, log=None):
    """What comes of the steps on a device of these words that answers at most `most` registers at once."""

    def answer(block):
        assert 0 < block.count <= 125
        wanted = range(block.address, block.address + block.count)
        if log is not None:
            log.append((block.address, block.count))
        return [words[at] for at in wanted] if block.count <= most and all(at in words for at in wanted) else None

    return drive(steps, answer)


def read(words, which=None, most=125):
    looked = []
    for model in run(find(which), words, most):
        got, _ = run(fetch(model, 125), words, most)
        looked.append((model, got))
    return measure(looked)


def chain(*models, base=40000, end=(0xFFFF, 0)):
    """Address -> word of bare models, given as (id, registers behind L)."""
    words = [0x5375, 0x6E53]
    for id_, body in models:
        words += [id_, len(body), *body]
    return dict(enumerate([*words, *end], base))


def body(length, **at):
    """Registers behind L, with words at offsets from ID: body(105, o18=…)."""
    words = [0] * length
    for offset, word in at.items():
        words[int(offset[1:]) - 2] = word
    return words


COMMON = (1, [*struct.unpack(">16H", b"Acme".ljust(32, b"\0")), *[0] * 50])
NONE = 0x8000

# The words of a device by hand, and what they mean.
BY_HAND = {
    # w -15755 at sf -1 is -1575.5, a tie: to the even -1576. Counters 0x0001_E240 = 123456, sf 1. pf -9870, sf -2: -98.70 %.
    203: (
        body(
            105,
            **{"o18": 65536 - 15755, "o22": 0xFFFF, "o16": 4998, "o17": 0xFFFE, "o8": 2301, "o9": NONE, "o15": 0xFFFF},
            **{"o38": 0x0001, "o39": 0xE240, "o46": 0, "o47": 7, "o54": 1, "o33": 65536 - 9870, "o37": 0xFFFE},
            **{"o3": 65536 - 525, "o4": 0, "o6": 0xFFFE, "o23": 1600, "o27": 0, "o28": NONE, "o32": 0},
            **{"o19": NONE, "o20": NONE, "o21": NONE, "o10": NONE, "o5": NONE},
        ),
        {"w": -1576, "va": 1600, "v_l1": 230.1, "a_l1": 5.25, "a_l2": 0.0, "hz": 49.98, "pf": -0.987}
        | {"import_wh": 70, "export_wh": 1_234_560},
    ),
    # 0x44C4F000 = 1575.5; 0x4247EB85 = 49.98; 0x47F12040 = 123456.5, to the even 123456; everything else not a number
    213: (
        [
            {28: 0x44C4, 29: 0xF000, 26: 0x4247, 27: 0xEB85, 60: 0x47F1, 61: 0x2040}.get(o, 0x7FC0 if o % 2 == 0 else 0)
            for o in range(2, 126)
        ],
        {"w": 1576, "hz": 49.98, "export_wh": 123_456},
    ),
    # it makes 585 W (5850 at sf -1), made 0x0098_9680 = 10000000 Wh, is 41.5 °C warm, gives 50 var; a 10x counts volts unsigned
    103: (
        body(
            50,
            **{"o14": 5850, "o15": 0xFFFF, "o24": 0x98, "o25": 0x9680, "o26": 0, "o16": 50, "o17": 0, "o33": 415, "o37": 0xFFFF},
            **{"o10": 0xFFFF, "o11": 0xFFFF, "o12": 40000, "o13": 0xFFFE, "o3": 254, "o4": 0xFFFF, "o5": 0xFFFF, "o6": 0xFFFE},
            **{"o18": NONE, "o20": 50, "o21": 0, "o22": NONE},
        ),
        {"w": -585, "var": -50, "v_l3": 400.0, "a_l1": 2.54, "hz": 50.0, "export_wh": 10_000_000, "temp_c": 41.5},
    ),
    # absorbs 300 W (-3 at sf 2); 2^32 + 5 at sf 0 given, 9 taken; 50010 mHz
    701: (
        body(
            153,
            **{"o10": 65536 - 3, "o116": 2, "o11": NONE, "o12": NONE, "o13": 65536 - 100, "o117": 0xFFFE, "o18": 50010, "o17": 0},
            **{
                "o115": 0xFFFD,
                "o20": 1,
                "o22": 5,
                "o26": 9,
                "o41": 65536 - 3,
                "o64": NONE,
                "o87": NONE,
                "o114": NONE,
                "o113": NONE,
            },
            **{"o36": NONE},
        ),
        {"w": 300, "w_l1": 300, "hz": 50.01, "pf": 1.0, "import_wh": 9, "export_wh": 4_294_967_301},
    ),
    # it makes 585.5 W (0x44126000), a tie: to the even 586; pf 98 % (0x42C40000); everything else not a number
    113: (
        [{22: 0x4412, 23: 0x6000, 30: 0x42C4, 31: 0}.get(o, 0x7FC0 if o % 2 == 0 else 0) for o in range(2, 62)],
        {"w": -586, "pf": 0.98},
    ),
    713: ([0, 0, 875, 0, 0, 0, 0xFFFF], {"soc_pct": 87.5}),
    124: (body(24, o8=8750, o22=0xFFFE), {"soc_pct": 87.5}),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("id_", BY_HAND)
def test_words_to_a_reading_by_hand(id_, base):
    words, values = BY_HAND[id_]
    reading = read(chain(COMMON, (id_, words), base=base))
    assert (reading.quality, reading.why, dict(reading.values)) == ("good", "", values)


def test_a_walk_steps_by_the_devices_own_lengths():
    words = chain(COMMON, (103, [0] * 52), (64110, []), (203, [0] * 60))
    assert [(model.id, model.at, model.length, model.makers) for model in run(walk(), words)] == [
        (1, 40002, 66, ("Acme",)),
        (103, 40070, 52, ("Acme",)),
        (64110, 40124, 0, ("Acme",)),
        (203, 40126, 60, ("Acme",)),
    ]


def test_one_poll_is_one_request_that_holds_the_header():
    for id_, last in ((203, 54), (213, 69), (103, 37), (701, 122), (124, 22)):
        words, log = image([common(ACME), Part(id_)]), []
        (model,) = run(find(None), words)
        run(fetch(model, 125), words, log=log)
        assert log == [(40070, last + 1)]


WRONG_CHAINS = {
    "no answer anywhere": ({}, "no SunSpec marker at 40000, 50000, 0"),
    "wrong marker": (chain(COMMON, (203, [0] * 105)) | {40000: 0x5374}, "no SunSpec marker"),
    "marker cut": ({40000: 0x5375}, "no SunSpec marker"),
    "words swapped": (chain(COMMON) | {40000: 0x6E53, 40001: 0x5375}, "no SunSpec marker"),
    "no common model": (chain((203, [0] * 105)), "begins with model 203, not with the common model 1"),
    "common model cut": (dict(list(chain(COMMON).items())[:10]), "common model at 40002 cannot be read"),
    "zeros without end": (chain(COMMON) | dict.fromkeys(range(40070, 65536), 0), "has no end (at 40196 after 64 models)"),
    "beyond the last address": (chain(COMMON) | {40070: 64001, 40071: 65535}, "has no end (at 105607 after 2 models)"),
    "at the last address": (chain(COMMON) | {40070: 64001, 40071: 65535 - 40072}, "has no end (at 65535 after 2 models)"),
    "nothing for us": (chain(COMMON, (120, [0] * 26)), "it has no SunSpec meter; maker 'Acme', models found: 1, 120"),
    "empty": (chain(), "it has no SunSpec meter; maker unknown, models found: none"),
    "too short to hold its watts": (chain(COMMON, (203, [0] * 20)), "it has no SunSpec meter; maker 'Acme', models found: 1, 203"),
    "too long to be true": (chain(COMMON, (203, [0] * 501)), "it has no SunSpec meter; maker 'Acme', models found: 1, 203"),
    "two things at once": (chain(COMMON, (103, [0] * 50), (203, [0] * 105)), "it is inverter and meter at once (maker 'Acme'"),
}


@pytest.mark.parametrize("wrong", WRONG_CHAINS)
def test_a_wrong_chain_says_what_is_wrong(wrong):
    words, told = WRONG_CHAINS[wrong]
    with pytest.raises(MeterError) as caught:
        read(words)
    assert told in str(caught.value)


def test_a_chain_that_ends_in_a_refusal_ends_there():
    words = chain(COMMON, (203, BY_HAND[203][0]), end=())
    assert read(words).values == BY_HAND[203][1]


def test_the_common_model_is_of_one_answer():
    steps = walk()
    assert next(steps).address == 40000
    steps.send((0x5375, 0x6E53))
    steps.send((1, 66))
    with pytest.raises(MeterError, match="common model"):
        steps.send([1, 65, *[0] * 16])


def test_the_role_says_what_to_read_in_a_device_that_is_everything():
    device = [common(ACME), Part(103, {"w": -585}), Part(124, {"soc_pct": 50}), common("Meter"), Part(203, {"w": 740})]
    words = image([*device, common("Meter"), Part(201, {"w": 9})])
    seen = {role: dict(read(words, which_for(role)).values) for role in ("grid", "load", "pv", "generator", "battery")}
    assert seen == {"grid": {"w": 740}, "load": {"w": 740}, "pv": {"w": -585}, "generator": {"w": -585}, "battery": {"soc_pct": 50}}
    with pytest.raises(MeterError, match=r"it has no SunSpec storage; maker 'Acme' and 'Meter', models found: 1, 1, 203"):
        read(image([common(ACME), common("Meter"), Part(203)]), "storage")


def test_makers_count_their_own_way():
    """SolarEdge's meter says +100 W (word 0x0064) when 100 W flow out; its counters are as they should be."""
    values = {"w": -100, "w_l1": -100, "var": -20, "va": 102, "v_l1": 230, "import_wh": 5, "export_wh": 6}
    parts = [common("SolarEdge "), Part(103, {"w": -1}), common("WattNode"), Part(203, values)]
    words = image(parts)
    at = next(model.at for model in run(walk(), words) if model.id == 203)
    assert (words[at + 18], words[at + 28]) == (100, 20)
    assert read(words, "meter").values == values
    assert read(words, "inverter").values == {"w": -1}
    assert read(image([common("HUAWEI"), Part(201, {"w": 7}, words={18: 7})])).values == {"w": -7}
    # Kostal: 0xFFFFFFF0 is -16, and -1 the pattern of nothing
    assert read(image([common("KOSTAL"), Part(203, {"export_wh": -16, "import_wh": 5})])).values == {
        "import_wh": 5,
        "export_wh": -16,
    }
    assert read(image([common("KOSTAL"), Part(203, words={38: 0xFFFF, 39: 0xFFF0, 54: 0})])).values == {"export_wh": -16}
    assert read(image([common(ACME), Part(203, words={38: 0xFFFF, 39: 0xFFF0, 54: 0})])).values == {"export_wh": 4_294_967_280}
    assert len({quirk.maker for quirk in QUIRKS if quirk.source}) == len(QUIRKS)


@pytest.mark.parametrize(("maker", "values"), [("Fronius", {"w": -1500, "soc_pct": 40.0}), (ACME, {"soc_pct": 40.0})])
def test_a_fronius_battery_has_its_watts_in_the_modules(maker, values):
    """Module 4, which discharges, says 15000 at sf -1; module 3, which charges, nothing: 0."""
    modules = Part(MODULES_ID, words={4: 0xFFFF, 8: 4, 61: 0, 81: 15000})
    words = image([common(maker), Part(103, {"w": -1}), Part(124, {"soc_pct": 40}), modules])
    assert read(words, "storage").values == values
    short = Part(MODULES_ID, words={4: 0, 8: 2}, length=48)  # two modules: no battery
    assert read(image([common(maker), Part(124, {"soc_pct": 40}), short]), "storage").values == {"soc_pct": 40}
    half = Part(MODULES_ID, words={4: 0, 61: 0xFFFF, 81: 7})  # one of the two is not there: a part of a sum is not a sum
    assert read(image([common(maker), Part(124, {"soc_pct": 40}), half]), "storage").values == {"soc_pct": 40}


@pytest.mark.parametrize("id_", sorted(set(LAYOUTS) - {MODULES_ID}))
def test_everything_not_implemented_is_absent_not_zero(id_):
    reading = read(image([common(ACME), Part(id_)]))
    assert (reading.quality, reading.values) == ("absent", {})
    assert str(id_) in reading.why


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({22: 11}, "the scale factor of w is 11, outside -10 to 10"),
        ({22: 65536 - 11}, "the scale factor of w is -11, outside"),
        ({22: 0x7FFF}, "the scale factor of w is 32767, outside"),
        ({22: 10}, "w reads 1e+12, outside -100000000 to 100000000"),
        ({17: 0}, "hz reads 5000, outside 0 to 70"),
        ({8: 30000, 15: 0xFFFF}, "v_l1 reads 3000, outside 0 to 1000"),
    ],
)
def test_what_cannot_be_is_suspect(words, told):
    reading = read(image([common(ACME), Part(203, {"w": 100, "hz": 50}, words=words)]))
    assert reading.quality == "suspect"
    assert told in reading.why


def test_a_missing_scale_factor_makes_no_value_and_a_power_factor_beyond_one_neither():
    assert read(image([common(ACME), Part(203, {"w": 100, "hz": 50}, words={17: 0x8000})])).values == {"w": 100}
    assert read(image([common(ACME), Part(203, {"w": 100, "pf": 1}, words={37: 0})])).values == {"w": 100}  # 10000 %


@pytest.mark.parametrize(
    ("parts", "ids"),
    [
        ([Part(103, {"w": -500}), Part(124, {"soc_pct": 40})], [124, 103]),
        ([Part(701, {"w": -500}), Part(713, {"soc_pct": 40})], [713, 701]),
        ([Part(124, {"soc_pct": 40})], [124]),
        ([Part(103, {"w": -500}), Part(124, {"soc_pct": 40}), Part(MODULES_ID)], [124]),  # solar modules beside it
        ([Part(701, {"w": -500}), Part(713, {"soc_pct": 40}), Part(714, length=20)], [713]),
    ],
)
def test_the_watts_of_a_unit_that_is_nothing_but_a_battery_are_the_battery_s(parts, ids):
    words = image([common(ACME), *parts])
    models = run(find("storage", True), words)
    assert [model.id for model in models] == ids
    looked = [(model, run(fetch(model, 125), words)[0]) for model in models]
    assert measure(looked).values == ({"w": -500, "soc_pct": 40} if len(ids) == 2 else {"soc_pct": 40})
    assert [model.id for model in run(find("storage"), words)] == ids[:1]
    if len(parts) > 1:
        assert [model.id for model in run(find("inverter", True), words)] == [parts[0].id]
