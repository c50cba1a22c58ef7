"""Tariffs: which rates hold in which slot, and how the shared record of them is changed."""

from __future__ import annotations

from agent.wire import Rates, Tariff


def rates_at(tariff: Tariff | None, unix_s: float) -> Rates | None:
    """The rates that hold at this moment, None before the first of them; the same at every node that holds this record."""
    for rates in (current(tariff), *tariff.past) if tariff is not None else ():
        if unix_s >= rates.from_slot * rates.slot_s:
            return rates
    return None


def current(tariff: Tariff) -> Rates:
    """The newest rates of the record; they may still be to come."""
    return Rates(
        import_u=tariff.import_u,
        export_u=tariff.export_u,
        floor_u=tariff.floor_u,
        cap_u=tariff.cap_u,
        currency=tariff.currency,
        slot_s=tariff.slot_s,
        rule=tariff.rule,
        from_slot=tariff.from_slot,
    )
