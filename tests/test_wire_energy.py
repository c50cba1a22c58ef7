"""The wire: energy records, and for what reason others are none."""

import json

import pytest
from test_wire import ENERGY, OF_ENERGY, refused

from agent import wire
from agent.decode import decode
from agent.wire import Energy, place


def test_an_energy_record():
    energy = decode(OF_ENERGY, json.dumps(ENERGY).encode())
    assert isinstance(energy, Energy)
    assert (energy.import_wh, energy.flags) == ([5, None, 7, 7], {0: "partial", 3: "clock"})
    assert decode(place("grid/node/a/energy/odd"), json.dumps(ENERGY | {"day": 20_001}).encode()).day == 20_001
    isle = {"wanted_wh": [0, None, 3, 3], "avail_wh": [7, None, 10**15, 9], "feeder": {"0": "generator", "3": ""}}
    energy = decode(OF_ENERGY, json.dumps(ENERGY | isle).encode())
    assert (energy.wanted_wh, energy.feeder) == ([0, None, 3, 3], {0: "generator", 3: ""})
    assert (wire.energy_kind(20_000), wire.energy_kind(20_001)) == ("energy/even", "energy/odd")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"day": 20_001}, "not a day of this topic"),
        ({"day": -2}, "not a day of this topic"),
        ({"day": 10**7 + 2}, "not a day of this topic"),
        ({"slot_s": 0}, "slot_s out of range"),
        ({"slot_s": 50_000}, "slot_s out of range"),
        ({"edges": -1}, "edges out of form"),
        ({"edges": 2}, "edges out of form"),
        ({"edges": 10**30}, "edges out of form"),
        ({"import_wh": [5]}, "edges out of form"),
        ({"import_wh": [5, 6, 7, 7]}, "registers out of form"),
        ({"export_wh": [0, None, 1, None]}, "registers out of form"),
        ({"export_wh": [0, None, -1, 0]}, "registers out of form"),
        ({"import_wh": [0, None, 10**15 + 1, 0]}, "registers out of form"),
        ({"import_wh": [0, None, 0.5, 0]}, "wrong types or missing keys"),
        ({"flags": {"4": "late"}}, "flags out of form"),
        ({"flags": {"-1": "late"}}, "flags out of form"),
        ({"flags": {"0": "x" * 65}}, "flags out of form"),
        ({"flags": {"a": "late"}}, "wrong types or missing keys"),
        ({"rated_w": -1}, "rated_w out of range"),
        ({"rated_w": 10**9 + 1}, "rated_w out of range"),
        ({"zone": "Z"}, "not a zone"),
        ({"wanted_wh": [0, 0, 0, 0]}, "registers out of form"),
        ({"avail_wh": [0, 0, 0, 0]}, "registers out of form"),
        ({"wanted_wh": [0, 0], "avail_wh": [0, 0]}, "registers out of form"),
        ({"wanted_wh": [0, None, 0, 0], "avail_wh": [0] * 4}, "registers out of form"),
        ({"wanted_wh": [0, -1, 0, 0], "avail_wh": [0] * 4}, "registers out of form"),
        ({"wanted_wh": [0] * 4, "avail_wh": [0, 0, 10**15 + 1, 0]}, "registers out of form"),
        ({"wanted_wh": [0, 1.5, 0, 0], "avail_wh": [0] * 4}, "wrong types or missing keys"),
        ({"feeder": {"4": "grid"}}, "feeder of no slot"),
        ({"feeder": {"-1": "grid"}}, "feeder of no slot"),
        ({"feeder": {"0": "x" * 33}}, "feeder of no slot"),
    ],
)
def test_no_energy_records(change, why):
    assert refused(OF_ENERGY, ENERGY | change) == why


@pytest.mark.parametrize(
    "change",
    [
        {"rated_w": None},
        {"edges": 0, "import_wh": [1, 2, 3, 4, 5], "export_wh": [5, 4, 3, 2, 1]},  # falling ones are for everybody to see
        {"edges": 5, "import_wh": [], "export_wh": []},
        {"slot_s": 1, "edges": 86_399, "import_wh": [0, 0], "export_wh": [0, 0], "flags": {"86399": "clock"}},
    ],
)
def test_energy_records_at_the_limits(change):
    assert isinstance(decode(OF_ENERGY, json.dumps(ENERGY | change).encode()), Energy)
