"""Whether a slot was one of an electrical island, and what was wanted and could have been made in it: by its records alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Want(NamedTuple):
    """What a node's record says of a slot besides its registers: Wh wanted and that could have been made (both None: it does not
    say), its feeder ("", "grid" or "generator"), and whether something of it was shed."""

    wanted_wh: int | None
    avail_wh: int | None
    feeder: str
    shed: bool


class Island(NamedTuple):
    """What prices a slot of an electrical island: demand wanted and supply that could be made, in one unit; was anything shed?"""

    wanted: int
    available: int
    shed: bool


def isle(uses: Mapping[str, tuple[int, int]], wants: Mapping[str, Want]) -> Island | None:
    """Of the nodes whose parts (import, export) count in a slot; None: it was not an island's.

    It was when a generator formed the grid: the record of a node with one says so and tells what it could have made, and none
    says that the zone hung on a grid. Without that the tariff's rule holds: of what could be made nobody knows the largest
    part, and the middle of the rates wrongs nobody. A node that does not say what it wanted is taken for what it took, and for
    what it gave: it wanted no less, and could have given no less.
    """
    if not wants:
        return None
    feeders = {want.feeder for node, want in wants.items() if node in uses and want.feeder}
    known = any(want.feeder == "generator" and want.avail_wh is not None for node, want in wants.items() if node in uses)
    if feeders != {"generator"} or not known:
        return None
    wanted = available = 0
    shed = False
    for node, (import_wh, export_wh) in uses.items():
        want = wants.get(node)
        wanted += import_wh if want is None or want.wanted_wh is None else want.wanted_wh
        available += export_wh if want is None or want.avail_wh is None else want.avail_wh
        shed |= want is not None and want.shed
    return Island(wanted, available, shed or wanted > available)
