"""Inputs that nobody meant to send, for every reader of outside data: only the declared error may come out, soon and small.

`python tests/bench_fuzz.py --inputs 1000000`. Exits 1 when one raised anything else or was beyond --most-ms or --most-mb.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fuzz import strike
from fuzz_core import CORE
from fuzz_lines import LINES
from fuzz_trust import TRUST

TARGETS = (*CORE, *LINES, *TRUST)
SHARES = sum(target.share for target in TARGETS)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--only", default="", help="targets whose name begins so")
    parser.add_argument("--seed", default="fuzz")
    parser.add_argument("--most-ms", type=float, default=500.0, help="CPU time of one input")
    parser.add_argument("--most-mb", type=float, default=32.0, help="growth of the process's peak by one input")
    parser.add_argument("--keep", type=Path, help="a directory for what was found and for the worst inputs")
    asked = parser.parse_args(arguments)
    print(f"{'target':24}{'inputs':>9}{'refused':>9}{'inputs/s':>10}{'worst ms':>10}{'worst MB':>10}{'found':>7}  worst input")
    total, bad = 0, 0
    for target in TARGETS:
        if not target.name.startswith(asked.only):
            continue
        count = max(1, asked.inputs * target.share // SHARES)
        struck = strike(target, count, asked.seed, asked.most_ms, asked.most_mb)
        total, bad = total + count, bad + len(struck.found)
        speed = count / max(struck.seconds, 1e-9)
        row = f"{target.name:24}{count:9}{struck.refused:9}{speed:10.0f}{struck.worst_ms:10.1f}{struck.worst_mb:10.1f}"
        print(f"{row}{len(struck.found):7}  {len(struck.worst)} bytes, {struck.worst[:40]!r}", flush=True)
        for found in struck.found[:5]:
            print(f"    {target.name} {found.number}: {found.why}\n        {found.data[:300]!r}", flush=True)
        if asked.keep:
            asked.keep.mkdir(parents=True, exist_ok=True)
            name = target.name.replace(" ", "-")
            (asked.keep / f"{name}-worst").write_bytes(struck.worst)
            for found in struck.found[:50]:
                (asked.keep / f"{name}-{found.number}").write_bytes(found.data)
    print(f"{total} inputs, {bad} found")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
