"""What the core must know of a configuration, in its own words."""

import time
from typing import Literal, cast

import msgspec

from agent import authority
from agent.address import TLS_PORT
from agent.closed import Closed
from agent.config import TARIFF, BatteryConfig, Config, FeederConfig, LoadConfig
from agent.metering import period_s
from agent.offer import Battery, Feeder
from agent.own import MeterSlot, Settings
from agent.switches import Load
from agent.version import VERSION
from agent.wire import Tariff
from drivers.reading import Role


def settings(config: Config, closed: Closed | None = None) -> Settings:
    """What the core must know of a configuration."""
    node = config.node
    return Settings(
        id=node.id,
        zone=node.zone,
        rated_w=node.rated_w,
        deadband_w=node.deadband_w,
        tariff=Tariff(version=0, **msgspec.structs.asdict(config.tariff)),
        tariff_keys={name: key for name, key in TARIFF.items() if key in config.stated},
        meters=tuple(MeterSlot(meter.name, cast(Role, meter.role), period_s(meter)) for meter in config.meters),
        loads=tuple(_load(load) for load in config.loads),
        place=node.place,
        role=node.role,
        address=_own_address(config, closed),
        join=_join(config, closed),
        shared=config.mqtt.shared,
        agent=VERSION,
        utc_offset_s=time.localtime().tm_gmtoff,
        battery=_battery(config.battery) if config.battery is not None else None,
        feeder=_feeder(config.feeder) if config.feeder is not None else None,
        nominal_hz=config.frequency.nominal_hz,
        hertz_meter=config.frequency.meter,
        load_meters={load.meter: load.name for load in config.loads if load.meter is not None},
    )


def _battery(config: BatteryConfig) -> Battery:
    written = config.control != "none"
    return Battery(config.meter, config.power_w, config.energy_wh, written, config.droop, config.deadband_w, config.revert_s)


def _feeder(config: FeederConfig) -> Feeder:
    kind: Literal["grid", "generator"] = "generator" if config.kind == "generator" else "grid"
    return Feeder(config.meter, kind, config.import_limit_w, config.export_limit_w)


def _join(config: Config, closed: Closed | None) -> tuple[str, ...]:
    """Whom to join: those of the file and of the bundle, or nobody while there shall be a bundle and is none."""
    if closed is None:
        return tuple(str(address) for address in config.network.join) if not config.network.closed else ()
    named = [str(address.or_at(TLS_PORT)) for address in config.network.join]
    return tuple(dict.fromkeys([*named, *authority.joins(closed.folder)]))


def _own_address(config: Config, closed: Closed | None) -> str | None:
    """Where others reach this node, as far as the file says it; in a closed network by TLS."""
    address = config.node.address
    if address is None:
        return None
    return str(address if closed is None else address.or_at(config.mqtt.tls_port))


def _load(load: LoadConfig) -> Load:
    return Load(load.name, load.each, load.rated_w, load.kind, load.safe_on, load.min_on_s, load.min_off_s)
