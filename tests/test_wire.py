"""The wire: which topics and payloads are records, and for what reason the others are not."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from agent.decode import decode
from agent.wire import Forgotten, Info, Place, Record, State, Tariff, WireError, place

STATE = {"net_w": -5, "produced_w": 5, "consumed_w": 10, "quality": "good", "zone": "z", "rated_w": 100, "version": 7}
INFO = {"siblings": {"b": 1}, "version": 7}
TARIFF = {
    "import_u": 300_000,
    "export_u": 80_000,
    "floor_u": 0,
    "cap_u": 900_000,
    "currency": "EUR",
    "slot_s": 900,
    "rule": "mmr",
    "from": 12,
    "version": 1,
}
ENERGY = {
    "day": 20_000,
    "slot_s": 21_600,  # four slots, five edges
    "edges": 1,
    "import_wh": [5, None, 7, 7],
    "export_wh": [0, None, 10**15, 0],
    "flags": {"0": "partial", "3": "clock"},
    "zone": "z",
    "rated_w": 100,
    "version": 1,
}
OF_ENERGY = place("grid/node/a/energy/even")
OF_STATE, OF_INFO, OF_TARIFF = place("grid/node/a/state"), place("grid/node/a/info"), place("grid/network/tariff")


def refused(where: Place, payload: bytes | dict) -> str:
    with pytest.raises(WireError) as caught:
        decode(where, payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    return str(caught.value)


def test_each_kind_has_its_type():
    assert decode(OF_STATE, json.dumps(STATE).encode()) == State(
        version=7, quality="good", zone="z", rated_w=100, net_w=-5, produced_w=5, consumed_w=10
    )
    assert decode(OF_INFO, json.dumps(INFO).encode()) == Info(version=7, siblings={"b": 1})
    tariff = decode(OF_TARIFF, json.dumps(TARIFF).encode())
    assert isinstance(tariff, Tariff)
    assert (tariff.import_u, tariff.export_u, tariff.from_slot) == (300_000, 80_000, 12)
    assert decode(place("grid/network/forgotten/b"), b'{"version":2}') == Forgotten(version=2, forgotten=True)
    assert decode(place("grid/network/forgotten/b"), b'{"version":2,"forgotten":false}') == Forgotten(version=2, forgotten=False)
    for unknown in ("grid/network/weather/b", "grid/node/a/energy/later", "grid/node/tariff/tariff"):
        assert type(decode(place(unknown), b'{"version":2,"x":[1.5,{}]}')) is Record


def test_unknown_keys_and_unknown_watts_are_fine():
    unknown = STATE | {"net_w": None, "produced_w": None, "consumed_w": None, "quality": "absent", "new": {"a": [1]}}
    assert decode(OF_STATE, json.dumps(unknown).encode()).net_w is None
    assert decode(OF_STATE, json.dumps(STATE | {"quality": "of a later version"}).encode()).quality == "of a later version"


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"version":1} {}', "not JSON"),
        (b'{"version":NaN}', "not JSON"),
        (b'{"version":1,"why":"\\ud800"}', "not JSON"),  # half a pair: could be read but never written again
        (b"\xff\xfe", "not UTF-8"),
        (b'{"version":1,"x":"\xff"}', "not UTF-8"),  # in a key that nobody looks at
        (b"[1]", "wrong types or missing keys"),
        (b"null", "wrong types or missing keys"),
        (b"{}", "wrong types or missing keys"),
        (b'{"version":"1"}', "wrong types or missing keys"),
        (b'{"version":1.0}', "wrong types or missing keys"),
        (b'{"version":1e3}', "wrong types or missing keys"),
        (b'{"version":true}', "wrong types or missing keys"),
        (b'{"version":null}', "wrong types or missing keys"),
        (b'{"version":' + b"9" * 5000 + b"}", "wrong types or missing keys"),
        (b'{"version":1,"instance":5}', "wrong types or missing keys"),
        (b'{"version":-1}', "version out of range"),
        (b'{"version":9007199254740993}', "version out of range"),
        (b'{"version":1,"x":' + b"[" * 512 + b"]" * 512 + b"}", "nested too deep"),
        (b"[" * 100_000, "over 16 KiB"),
        (b'{"version":1,"x":"' + b"y" * 10_000_000 + b'"}', "over 16 KiB"),
        (b'{"version":1,"x":"' + b"y" * (16 * 1024 - 19) + b'"}', "over 16 KiB"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_what_is_no_record_of_any_kind(payload, why):
    assert refused(place("grid/node/a/later"), payload) == why


@pytest.mark.parametrize("version", [0, 1, 2**53])
def test_versions_from_0_to_2_to_the_53(version):
    assert decode(OF_INFO, b'{"version":%d}' % version).version == version


def test_the_largest_payload_and_the_deepest():
    largest = b'{"version":1,"x":"' + b"y" * (16 * 1024 - 20) + b'"}'
    assert len(largest) == 16 * 1024
    assert decode(place("grid/node/a/later"), largest).version == 1
    assert decode(place("grid/node/a/later"), b'{"version":1,"x":' + b"[" * 511 + b"]" * 511 + b"}").version == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rated_w": -1}, "rated_w out of range"),
        ({"rated_w": 10**9 + 1}, "rated_w out of range"),
        ({"rated_w": 100.0}, "wrong types or missing keys"),
        ({"zone": "Z"}, "not a zone"),
        ({"zone": ""}, "not a zone"),
        ({"zone": 5}, "wrong types or missing keys"),
        ({"quality": None}, "wrong types or missing keys"),
        ({"net_w": -6}, "net_w is not produced_w - consumed_w"),
        ({"net_w": 5}, "net_w is not produced_w - consumed_w"),
        ({"net_w": -5.0}, "wrong types or missing keys"),
        ({"net_w": False, "produced_w": 0, "consumed_w": 0}, "wrong types or missing keys"),
        ({"net_w": "-5"}, "wrong types or missing keys"),
        ({"net_w": None}, "watts partly unknown"),
        ({"produced_w": None}, "watts partly unknown"),
        ({"consumed_w": None}, "watts partly unknown"),
        ({"net_w": None, "produced_w": None}, "watts partly unknown"),
        ({"produced_w": -1, "net_w": -11}, "watts out of range"),
        ({"consumed_w": -1, "net_w": 6}, "watts out of range"),
        ({"produced_w": 10**9 + 1, "net_w": 10**9 - 9}, "watts out of range"),
        ({"consumed_w": 10**9 + 1, "net_w": 4 - 10**9}, "watts out of range"),
    ],
)
def test_no_states(change, why):
    assert refused(OF_STATE, STATE | change) == why


def test_the_greatest_watts():
    greatest = STATE | {"rated_w": 10**9, "produced_w": 10**9, "consumed_w": 10**9, "net_w": 0}
    assert decode(OF_STATE, json.dumps(greatest).encode()).produced_w == 10**9
    assert decode(OF_STATE, json.dumps(STATE | {"rated_w": 0}).encode()).rated_w == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"siblings": {"B": 1}}, "siblings out of form"),
        ({"siblings": {"network": 1}}, "siblings out of form"),
        ({"siblings": {"b": -1}}, "siblings out of form"),
        ({"siblings": {"b": 2**53 + 1}}, "siblings out of form"),
        ({"siblings": {f"b{number}": 1 for number in range(257)}}, "siblings out of form"),
        ({"siblings": ["b"]}, "wrong types or missing keys"),
        ({"dials": [1]}, "wrong types or missing keys"),
        ({"left": 1}, "wrong types or missing keys"),
    ],
)
def test_no_infos(change, why):
    assert refused(OF_INFO, INFO | change) == why


def test_the_most_siblings():
    assert len(decode(OF_INFO, json.dumps(INFO | {"siblings": {f"b{n}": 2**53 for n in range(256)}}).encode()).siblings) == 256


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"export_u": 300_001}, "tariff out of range"),
        ({"import_u": 10**12 + 1}, "tariff out of range"),
        ({"export_u": -(10**12) - 1}, "tariff out of range"),
        ({"floor_u": -(10**12) - 1}, "tariff out of range"),
        ({"cap_u": 10**12 + 1}, "tariff out of range"),
        ({"slot_s": 0}, "slot_s out of range"),
        ({"slot_s": 86_401}, "slot_s out of range"),
        ({"slot_s": 7}, "slot_s out of range"),
        ({"from": -1}, "tariff from no slot"),
        ({"from": 281_558_112}, "tariff from no slot"),  # slots of 900 s: the year 10000, which no calendar can show
        ({"past": [TARIFF | {"from": 2**53}]}, "tariff from no slot"),
        ({"import_u": 0.3}, "wrong types or missing keys"),
        ({"currency": None}, "wrong types or missing keys"),
    ],
)
def test_no_tariffs(change, why):
    assert refused(OF_TARIFF, TARIFF | change) == why


@pytest.mark.parametrize(
    "change",
    [
        {"export_u": 300_000},
        {"import_u": 10**12, "export_u": -(10**12), "floor_u": -(10**12), "cap_u": 10**12},
        {"slot_s": 1},
        {"slot_s": 86_400},
        {"from": 281_558_111},
    ],
)
def test_tariffs_at_the_limits(change):
    assert isinstance(decode(OF_TARIFF, json.dumps(TARIFF | change).encode()), Tariff)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(payload):
    for where in (OF_STATE, OF_INFO, OF_TARIFF, OF_ENERGY, place("grid/network/forgotten/a")):
        try:
            record = decode(where, payload)
        except WireError:
            continue
        assert msgspec.json.encode(record)


@pytest.mark.parametrize(
    ("price_u", "text"),
    [(287_700, "0.2877"), (0, "0.0000"), (1, "0.000001"), (-1, "-0.000001"), (-1_500_000, "-1.5000"), (12_345_678, "12.345678")],
)
def test_prices_as_people_read_them(price_u, text):
    assert wire.price_text(price_u) == text


@given(st.integers(-(10**13), 10**13))
def test_the_text_is_the_exact_price(price_u):
    whole, _, part = wire.price_text(price_u).partition(".")
    assert 4 <= len(part) <= 6
    assert int(whole + part.ljust(6, "0")) == price_u


def test_encoding_keeps_the_order_and_nulls():
    assert wire.encode({"b": None, "a": [1], "é": "x"}) == '{"b":null,"a":[1],"é":"x"}'.encode()
    assert wire.encode_list(["a", "b"]) == b'["a","b"]'


FLEX = {"load": [1, 2, 3, 4], "digest": "00ff"}


def test_a_flex_by_hand():
    state = decode(
        OF_STATE, json.dumps(STATE | {"hz": 49.987, "flex": FLEX | {"slack_w": -5, "kind": "grid", "later": 1}}).encode()
    )
    assert isinstance(state, State)
    assert state.hz == 49.987
    assert state.flex == wire.Flex(load=(1, 2, 3, 4), slack_w=-5, kind="grid", digest="00ff")
    later = decode(OF_STATE, json.dumps(STATE | {"flex": {"v2": {}, "kind": "fusion"}}).encode())
    assert isinstance(later, State)
    assert later.flex == wire.Flex(kind="fusion")  # its watts still count


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"load": [1, 2, 3]}, "wrong types or missing keys"),
        ({"load": [1, 2, 3, 4, 5]}, "wrong types or missing keys"),
        ({"load": [1, 2, 3, 4.5]}, "wrong types or missing keys"),
        ({"load": [1, 2, 3, True]}, "wrong types or missing keys"),
        ({"load": [1, 2, 3, -1]}, "flex out of range"),
        ({"load": [10**9 + 1, 0, 0, 0]}, "flex out of range"),
        ({"pv_w": -1}, "flex out of range"),
        ({"dis_w": 10**9 + 1}, "flex out of range"),
        ({"chg_w": -1}, "flex out of range"),
        ({"ttg_s": -1}, "flex out of range"),
        ({"firm_w": 10**20}, "flex out of range"),
        ({"firm_w": -1}, "flex out of range"),
        ({"export_w": -1}, "flex out of range"),
        ({"soc_wh": -1}, "flex out of range"),
        ({"cap_wh": 10**15 + 1}, "flex out of range"),
        ({"applied_w": -(10**9) - 1}, "flex out of range"),
        ({"slack_w": -(10**9) - 1}, "flex out of range"),
        ({"slack_w": 1.0e300}, "wrong types or missing keys"),
        ({"kind": "x" * 33}, "digest or kind of flex too long"),
        ({"digest": "x" * 33}, "digest or kind of flex too long"),
    ],
)
def test_a_flex_out_of_form(more, why):
    assert refused(OF_STATE, STATE | {"flex": FLEX | more}) == why


def test_bounds_of_a_flex_and_a_frequency():
    most = {"load": [10**9] * 4, "ttg_s": 10**9, "soc_wh": 10**15, "cap_wh": 10**15, "applied_w": -(10**9), "slack_w": 10**9}
    decode(OF_STATE, json.dumps(STATE | {"flex": FLEX | most, "hz": 0}).encode())
    for hz in (-1, 1001, "50"):
        assert refused(OF_STATE, STATE | {"hz": hz}) in ("hz out of range", "wrong types or missing keys")
    assert refused(OF_STATE, STATE | {"flex": [1, 2]}) == "wrong types or missing keys"
    assert decode(OF_STATE, json.dumps(STATE | {"flex": None, "hz": None}).encode()).flex is None
