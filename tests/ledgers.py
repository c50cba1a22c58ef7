"""Ledgers for the tests: settled slots to write, and what a restart finds."""

from contextlib import closing

import msgspec

from agent.accounts import settle
from agent.ledger import Ledger
from agent.wire import Tariff

K = 20_000 * 96
EVER = 1e9  # seconds
END = (K + 1) * 900
TARIFF = Tariff(version=1, import_u=300_000, export_u=80_000, floor_u=0, cap_u=900_000, currency="EUR", slot_s=900, rule="mmr")


def row(number=0, nodes=3, **keys):
    """The settled slot K + number."""
    uses = {f"n{node}": (node * 10 + number, node) for node in range(nodes)}
    return msgspec.structs.replace(settle(K + number, "z", uses, TARIFF), **keys)


def again(folder):
    """A restart: what its opening says, and everything it finds."""
    with closing(Ledger(folder)) as one:
        trouble = one.open()
        rows, more = one.recent(EVER)
        assert more == ""
        return trouble, rows
