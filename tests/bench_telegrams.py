"""What spoiled telegrams do: for each format of pushed meters, 1 to 8 flipped bits a telegram and the wrong values that came out.

`python tests/bench_telegrams.py --tries 100000`. Exits 1 when a row that must have no wrong value has one.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from sml_telegrams import PLAIN, RICH
from spoil import Reader, Wire, eight_bits, parity, parity_one_a_byte, strike, unchecked
from telegrams import BELGIUM, DUTCH_2, HISTORIC, HISTORIC_3, NETHERLANDS_5, PRODUCER, Q3D, STANDARD, SWEDEN, THREE

from drivers.p1 import P1
from drivers.sml import Sml
from drivers.tic import Tic

FOLLOW = 11  # an intact telegram comes after each such spoiled one; prime to the numbers of telegrams


class Row(NamedTuple):
    name: str
    reader: Callable[[], Reader]
    telegrams: Sequence[bytes]
    wire: Wire
    exact: bool = True  # no wrong value is allowed; else the row shows a limit that the reader's docstring tells of
    most: int = 8  # flips
    before: int = 0  # intact telegrams ahead of each spoiled one


ROWS = (
    Row("P1 with CRC", P1, (NETHERLANDS_5, BELGIUM, SWEDEN), eight_bits),
    Row("P1 without CRC, one flip a byte", P1, (DUTCH_2, Q3D), parity_one_a_byte),
    Row("SML", Sml, (PLAIN, RICH), eight_bits, before=1),
    Row("SML trusting", partial(Sml, True), (PLAIN, RICH), eight_bits, exact=False),
    Row("TIC historic", Tic, (HISTORIC, HISTORIC_3), parity),
    Row("TIC standard", Tic, (STANDARD, PRODUCER, THREE), parity),
    Row("TIC historic, no parity, one flip", Tic, (HISTORIC, HISTORIC_3), unchecked, most=1),
    Row("TIC standard, no parity, one flip", Tic, (STANDARD, PRODUCER, THREE), unchecked, most=1),
    Row("limit: P1 without CRC, any flips", P1, (DUTCH_2, Q3D), parity, exact=False),
    Row("limit: P1 without CRC, no parity", P1, (DUTCH_2, Q3D), unchecked, exact=False),
    Row("limit: TIC historic, no parity", Tic, (HISTORIC, HISTORIC_3), unchecked, exact=False),
    Row("limit: TIC standard, no parity", Tic, (STANDARD, PRODUCER, THREE), unchecked, exact=False),
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=20_000, help="telegrams a row")
    parser.add_argument("--only", default="", help="rows whose name begins so")
    parser.add_argument("--seed", default="telegrams")
    asked = parser.parse_args(arguments)
    print(f"{'format':36}{'flips':>7}{'tries':>9}{'accepted':>10}{'wrong':>7}{'next lost':>11}{'µs a try':>10}")
    failed = False
    for row in ROWS:
        if not row.name.startswith(asked.only):
            continue
        began = time.process_time()
        struck = strike(row.reader, row.telegrams, row.wire, asked.tries, f"{asked.seed} {row.name}", row.most, FOLLOW, row.before)
        each_us = (time.process_time() - began) / asked.tries * 1e6
        failed |= row.exact and struck.wrong > 0
        flips = "1" if row.most == 1 else f"1-{row.most}"
        print(
            f"{row.name:36}{flips:>7}{asked.tries:9}{struck.accepted:10}{struck.wrong:7}{struck.lost:11}{each_us:10.0f}", flush=True
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
