"""Set-points of SunSpec batteries: words by hand, limits, what is missing, and that what is written is what is read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steps import drive

from drivers.reading import MeterError
from drivers.registers import Write
from drivers.setpoint import Place, Told, disagreement, find, limits, look, order, release, told, value
from drivers.sunspec_image import Part, common, image

NONE16, NONE32 = 0xFFFF, (0xFFFF, 0xFFFF)


def storage(base=5000, base_sf=0, rate_sf=-2, **words):
    """Model 124 as words: at 100 % both ways and not in force."""
    full = 10 ** (2 - rate_sf) if rate_sf > -3 else 0
    held = {2: base, 5: 0, 12: full, 13: full, 14: NONE16, 15: 0, 18: base_sf & 0xFFFF, 25: rate_sf & 0xFFFF}
    return Part(124, words=held | {int(at[1:]): word for at, word in words.items()})


def der(sf=0, **words):
    """Model 704 as words, with nothing in force."""
    held = {at: NONE16 for at in range(2, 67)} | {22: 0, 23: 0, 24: 0, 25: 0, 30: 0, 31: 0, 32: 0, 55: sf & 0xFFFF}
    return Part(704, length=65, words=held | {int(at[1:]): word for at, word in words.items()})


def rated(id_, length, **words):
    held = {at: NONE16 for at in range(2, 2 + length)} | {int(at[1:]): word for at, word in words.items()}
    return Part(id_, length=length, words=held)


class Device:
    """Answers steps from an image and does what it is told to write; `most` registers at once."""

    def __init__(self, *parts, most=125):
        self.words, self.most, self.asked = image([common("Acme"), *parts]), most, []

    def run(self, steps):
        return drive(steps, self.answer)

    def answer(self, step):
        self.asked.append((step.fc, step.address, step.count))
        if isinstance(step, Write):
            self.words |= dict(enumerate(step.words, step.address))
            return None
        places = range(step.address, step.address + step.count)
        whole = step.count <= self.most and all(at in self.words for at in places)
        return [self.words[at] for at in places] if whole else None

    def write(self, writes):
        for write in writes:
            self.words |= dict(enumerate(write.words, write.address))


def found(control, *parts):
    device = Device(*parts)
    plant = device.run(find(control))
    return device, plant, device.run(look(plant))


# 124 is at 40002 + 68 = 40070; base 5000 W: 1 W = 0.02 %, the scale factor -2 counts hundredths: raw = watts * 2
# base 600 * 10^1 W, scale factor 0: whole percents of 60 W; 1000 W are 16.7 -> 16 % = 960 W
BY_HAND_124 = [
    (storage(), 1234, 60, (2468, 0x10000 - 2468), 1234),
    (storage(), -2000, 60, (0x10000 - 4000, 4000), -2000),
    (storage(), 0, 60, (0, 0), 0),
    (storage(base=600, base_sf=1, rate_sf=0), 1000, 90, (16, 0x10000 - 16), 960),
    (storage(base=600, base_sf=1, rate_sf=0), -1000, 90, (0x10000 - 16, 16), -960),
]


@pytest.mark.parametrize(("part", "watts", "revert_s", "rates", "held_w"), BY_HAND_124)
def test_the_words_of_model_124_by_hand(part, watts, revert_s, rates, held_w):
    device, plant, held = found("sunspec-124", part)
    asked, writes = order(plant, held, watts, revert_s)
    assert asked == Told(True, held_w, revert_s)
    # the timer, both rates in one request, and only then the mode
    assert [(write.address - 40070, write.words) for write in writes] == [(15, (revert_s,)), (12, rates), (5, (3,))]
    assert [(write.fc, write.count) for write in writes] == [(16, 1), (16, 2), (16, 1)]
    assert "writing registers 0x9C92..0x9C93 (SunSpec model 124, set-point)" in str(writes[1])  # 40082 = 0x9C92
    device.write(writes)
    assert told(plant, device.run(look(plant))) == asked
    device.write([release(plant)])
    assert (release(plant).address - 40070, release(plant).words) == (5, (0,))
    assert not told(plant, device.run(look(plant))).on


# -777 = 0xFFFF_FCF7; with the scale factor 1 it is -77 * 10 W, -77 = 0xFFFF_FFB3; 70000 s = 0x1_1170, no more than 65534 = 0xFFFE
BY_HAND_704 = [
    (der(), -777, 60, (0xFFFF, 0xFCF7), -777, (0, 0, 60)),
    (der(), 70_000, 60, (1, 0x1170), 70_000, (0, 0, 60)),
    (der(sf=1), -777, 70_000, (0xFFFF, 0xFFB3), -770, (0, 0, 0xFFFE)),
    (der(sf=-1), 12, 0, (0, 120), 12, (0, 0, 1)),
]


@pytest.mark.parametrize(("part", "watts", "revert_s", "words", "held_w", "timer"), BY_HAND_704)
def test_the_words_of_model_704_by_hand(part, watts, revert_s, words, held_w, timer):
    device, plant, held = found("sunspec-704", part)
    asked, writes = order(plant, held, watts, revert_s)
    assert [(write.address - 40070, write.words) for write in writes] == [(30, timer), (23, (1, *words)), (22, (1,))]
    assert (asked.watts, asked.revert_s) == (held_w, timer[2])
    device.write(writes)
    assert told(plant, device.run(look(plant))) == asked
    device.write([release(plant)])
    assert (release(plant).address - 40070, release(plant).words) == (22, (0,))
    assert not told(plant, device.run(look(plant))).on


def test_a_device_without_a_choice_of_what_reverts_is_not_written_there():
    _, plant, held = found("sunspec-704", der(_30=NONE16))
    _, writes = order(plant, held, 5, 60)
    assert [(write.address - 40070, write.words) for write in writes] == [(31, (0, 60)), (23, (1, 0, 5)), (22, (1,))]


# (ratings, control, power_w of the user) -> (charge, discharge): the least of all
LIMITS = [
    ([], "sunspec-124", storage(), 3000, (3000, 3000)),
    ([], "sunspec-124", storage(), 9000, (5000, 5000)),
    ([rated(120, 26, _3=45, _4=2, _23=20, _24=2, _25=41, _26=2)], "sunspec-124", storage(), 9000, (2000, 4100)),
    ([rated(120, 26, _3=40, _4=2)], "sunspec-124", storage(), 9000, (4000, 4000)),  # without rates the inverter's rating
    ([rated(120, 26, _3=45, _4=2, _23=0, _24=0)], "sunspec-124", storage(), 9000, (4500, 4500)),  # a rate of 0 is none
    ([rated(120, 20, _3=45, _4=2)], "sunspec-124", storage(), 9000, (4500, 4500)),  # shorter than published
    ([], "sunspec-704", der(), 3000, (3000, 3000)),
    ([rated(702, 50, _2=600, _10=250, _11=310, _34=240, _35=320, _45=1)], "sunspec-704", der(), 9000, (2400, 3100)),
    ([rated(702, 50, _2=600, _26=280, _45=1)], "sunspec-704", der(), 9000, (2800, 2800)),
    (
        [rated(702, 50, _2=600, _45=0x8000)],
        "sunspec-704",
        der(),
        9000,
        (9000, 9000),
    ),  # without a scale factor a number says nothing
]


@pytest.mark.parametrize(("ratings", "control", "part", "power_w", "both"), LIMITS)
def test_the_users_limit_or_the_devices_own(ratings, control, part, power_w, both):
    _, plant, held = found(control, *ratings, part)
    assert limits(plant, held, power_w) == both


LACKING = [
    ("sunspec-124", storage(_15=NONE16), "has no reversion timer .InOutWRte_RvrtTms.: it is left alone"),
    ("sunspec-124", storage(_12=0x8000), "has no rate of discharging"),
    ("sunspec-124", storage(_13=0x8000), "has no rate of charging"),
    ("sunspec-124", storage(_25=0x8000), "does not say the scale factor of InOutWRte"),
    ("sunspec-124", storage(_2=NONE16), "does not say what 100 % are .WChaMax.; is a battery connected"),
    ("sunspec-124", storage(_2=0), "does not say what 100 % are"),
    ("sunspec-124", storage(rate_sf=-5), "leaves no room: a set-point = .* does not fit"),
    ("sunspec-704", der(_31=NONE16, _32=NONE16), "has no reversion timer .WSetRvrtTms."),
    ("sunspec-704", der(_24=0x8000), "has no set-point in watts .WSet."),
    ("sunspec-704", der(sf=11), "does not say the scale factor of WSet"),
    ("sunspec-704", der(sf=-9), "leaves no room"),
]


@pytest.mark.parametrize(("control", "part", "told"), LACKING)
def test_a_device_that_lacks_what_is_needed_is_left_alone(control, part, told):
    _, plant, held = found(control, part)
    with pytest.raises(MeterError, match=told):
        order(plant, held, 4000, 60)


def test_a_device_without_the_controls_says_so():
    with pytest.raises(MeterError, match="no SunSpec model 704, so that no set-point can be written; models found: 1, 124"):
        Device(storage()).run(find("sunspec-704"))
    with pytest.raises(MeterError, match="model 124 of length 20 is too short"):
        Device(Part(124, length=20)).run(find("sunspec-124"))


@pytest.mark.parametrize(("control", "part"), [("sunspec-124", storage()), ("sunspec-704", der(_24=1, _55=0))])
def test_a_device_that_wants_small_requests_gets_them(control, part):
    device = Device(rated(120, 26, _3=45, _4=2), rated(702, 50, _2=45, _45=2), part, most=20)
    plant = device.run(find(control))
    assert plant.discharge_w == 4500
    whole, device.most = device.run(look(plant)), 125
    assert {at: word for at, word in device.run(look(plant)).items() if at in whole} == whole
    assert order(plant, whole, 100, 60) == order(plant, device.run(look(plant)), 100, 60)
    device.most = 1
    with pytest.raises(MeterError, match="refused; its models are looked for again"):
        device.run(look(plant))


def test_a_model_that_moved_is_not_written_to():
    device, plant, _ = found("sunspec-124", storage())
    device.words = image([common("Acme"), Part(120, length=26), storage()])
    with pytest.raises(MeterError, match="model 124 of length 24 is not at 40070 any more"):
        device.run(look(plant))


def test_a_number_that_is_not_there_is_none():
    assert value({}, Place(3, "u16")) is None
    assert value({3: 7}, Place(3, "u16")) == 7
    assert value({3: 7}, Place(3, "u16", 4)) is None  # its scale factor is not there
    assert value({3: 7, 4: 0xFFFF}, Place(3, "u16", 4)) * 10 == 7


ASKED = Told(True, 1000, 60)


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (Told(True, 1000, 60), ""),
        (Told(True, 970, 60), ""),  # 30 W are the hundredth part of 3000
        (Told(True, 1030, 7), ""),  # a timer that runs
        (Told(True, 969, 60), "1000 W were written, and the device holds 969 W"),
        (Told(True, -1000, 60), "holds -1000 W"),
        (Told(False, 1000, 60), "the device holds no set-point"),
        (Told(True, 1000, 0), "a reversion timer of 60 s was written, and the device holds 0 s"),
        (Told(True, 1000, 61), "holds 61 s"),
    ],
)
def test_what_agrees_and_what_does_not(held, why):
    assert why in disagreement(ASKED, held, 3000)
    assert bool(why) == bool(disagreement(ASKED, held, 3000))


def test_what_was_never_written_is_no_set_point():
    for control, part in (
        ("sunspec-124", storage(_5=3)),  # a window of 100 % both ways
        ("sunspec-124", storage(_5=3, _12=0x8000)),
        ("sunspec-704", der(_22=1, _23=0)),  # in percent
        ("sunspec-704", der(_22=1, _23=1, _30=1)),  # something stays in force when the timer has run out
        ("sunspec-704", der(_22=1, _23=1, _24=0x8000)),
    ):
        _, plant, held = found(control, part)
        assert not told(plant, held).on


@given(
    st.sampled_from(["sunspec-124", "sunspec-704"]),
    st.integers(-20_000, 20_000),
    st.integers(1, 30_000),
    st.integers(-2, 0),
    st.integers(1, 65_534),
)
def test_whatever_is_written_is_held_and_never_more(control, watts, base, sf, revert_s):
    part = storage(base=base, rate_sf=sf) if control == "sunspec-124" else der(sf=sf)
    device, plant, held = found(control, part)
    charge_w, discharge_w = limits(plant, held, 10_000)
    watts = max(-charge_w, min(discharge_w, watts))
    asked, writes = order(plant, held, watts, revert_s)
    device.write(writes)
    back = told(plant, device.run(look(plant)))
    assert back == asked
    assert disagreement(asked, back, 10_000) == ""
    assert -abs(watts) <= back.watts <= abs(watts)
    step_w = base * 10**sf / 100 if control == "sunspec-124" else 10**sf
    assert abs(back.watts - watts) <= step_w + 1
