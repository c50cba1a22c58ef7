"""Pretend telegrams: what was put in is what the readers of such meters make of it."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.p1 import P1
from drivers.pretend import SHOWN, TELEGRAMS
from drivers.sml import Sml
from drivers.tic import Tic

READERS = {"p1": P1, "sml": partial(Sml, trusting=True), "tic": Tic}
watts = st.integers(-99_999, 99_999)
VALUES = st.fixed_dictionaries(
    {
        **{name: watts for name in ("w", "w_l1", "w_l2", "w_l3")},
        **{f"v_l{phase}": st.integers(2000, 2600).map(lambda tenths: tenths / 10) for phase in (1, 2, 3)},
        **{f"a_l{phase}": st.integers(0, 99).map(float) for phase in (1, 2, 3)},
        **{name: st.integers(0, 999_999_999) for name in ("import_wh", "export_wh")},
    }
)


def test_the_telegrams_by_hand():
    values = {"w": -1234, "w_l1": -1234, "w_l2": 0, "w_l3": 0, "import_wh": 1234567, "export_wh": 98760}
    values |= {f"v_l{phase}": 230.4 for phase in (1, 2, 3)} | {f"a_l{phase}": 5.25 for phase in (1, 2, 3)}
    p1, tic, sml = (TELEGRAMS[kind](values) for kind in ("p1", "tic", "sml"))
    for line in (
        b"1-0:1.8.1(001234.567*kWh)\r\n",
        b"1-0:2.7.0(01.234*kW)\r\n",
        b"1-0:1.7.0(00.000*kW)\r\n",
        b"1-0:32.7.0(230.4*V)\r\n",
    ):
        assert line in p1
    assert b"\nSINSTI\t01234\t" in tic
    assert b"\nEAST\t001234567\t" in tic
    assert bytes.fromhex("77070100100700ff0101621b520055fffffb2e01") in sml  # 16.7.0, W, 10^0, -1234
    assert bytes.fromhex("77070100010800ff0101621e52ff59") + (12345670).to_bytes(8, "big") in sml  # 1.8.0 in 0.1 Wh


@pytest.mark.parametrize("kind", TELEGRAMS)
@given(values=VALUES)
def test_a_reader_gets_out_what_was_put_in(kind, values):
    reader = READERS[kind]()
    for _ in range(2):
        (reading,) = reader.feed(TELEGRAMS[kind](values))
        assert (reading.quality, reader.damaged) == ("good", 0)
        close = {name: round(value) if kind == "tic" and name == "v_l1" else value for name, value in values.items()}
        assert {name: reading.values[name] for name in SHOWN[kind]} == {name: close[name] for name in SHOWN[kind]}
