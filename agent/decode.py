"""Whether a message is a record: its bytes are judged here, by every node and relay alike."""

import msgspec

from agent.wire import (
    DAY_S,
    ENERGY,
    FORGOTTEN,
    ID,
    MAX_PAST,
    MAX_PAYLOAD,
    MAX_UNIX_S,
    MAX_VERSION,
    MAX_W,
    MAX_WH,
    RENEWED,
    REVOKED,
    Energy,
    Flex,
    Forgotten,
    Info,
    Place,
    Rates,
    Record,
    Renewed,
    Revoked,
    State,
    Tariff,
    WireError,
    energy_kind,
    is_id,
)

MAX_BRACKETS = 512  # bounds the nesting without depending on this process's recursion limit: relays must not differ


def _type_of(place: Place) -> type[Record]:
    match place.owner, place.kind:
        case "network", "tariff":
            return Tariff
        case "network", kind if kind.startswith(FORGOTTEN):
            return Forgotten
        case "network", kind if kind.startswith(REVOKED):
            return Revoked
        case "network", kind if kind.startswith(RENEWED):
            return Renewed
        case "network", _:
            return Record
        case _, "state":
            return State
        case _, "info":
            return Info
        case _, kind if kind in ENERGY:
            return Energy
    return Record


def decode(place: Place, payload: bytes) -> Record:
    """The record a payload holds. It depends on these bytes and this place alone, so that all relays judge alike.

    Raises WireError with a short reason that quotes nothing of the payload.
    """
    if len(payload) > MAX_PAYLOAD:
        raise WireError("over 16 KiB")
    if payload.count(b"[") + payload.count(b"{") > MAX_BRACKETS:
        raise WireError("nested too deep")
    try:
        payload.decode()  # msgspec does not look into the strings it skips
        record = msgspec.json.decode(payload, type=_type_of(place))
    except UnicodeDecodeError as error:
        raise WireError("not UTF-8") from error
    except msgspec.ValidationError as error:
        raise WireError("wrong types or missing keys") from error
    except msgspec.DecodeError as error:
        raise WireError("not JSON") from error
    if not 0 <= record.version <= MAX_VERSION:
        raise WireError("version out of range")
    match record:
        case State():
            _check_state(record)
        case Tariff():
            _check_tariff(record)
        case Info():
            _check_info(record)
        case Energy():
            _check_energy(record, place.kind)
        case _:
            pass
    return record


def _check_state(state: State) -> None:
    if not 0 <= state.rated_w <= MAX_W:
        raise WireError("rated_w out of range")
    if not ID.fullmatch(state.zone):
        raise WireError("not a zone")
    if state.hz is not None and not 0 <= state.hz <= 1000:
        raise WireError("hz out of range")
    if state.flex is not None:
        _check_flex(state.flex)
    watts = (state.net_w, state.produced_w, state.consumed_w)
    match watts:
        case (None, None, None):
            return
        case (int(net_w), int(produced_w), int(consumed_w)):
            if not (0 <= produced_w <= MAX_W and 0 <= consumed_w <= MAX_W):
                raise WireError("watts out of range")
            if net_w != produced_w - consumed_w:
                raise WireError("net_w is not produced_w - consumed_w")
        case _:
            raise WireError("watts partly unknown")


def _check_flex(flex: Flex) -> None:
    least_0 = (*flex.load, flex.pv_w, flex.dis_w, flex.chg_w, flex.firm_w, flex.export_w or 0, flex.ttg_s)
    either = (flex.applied_w, flex.slack_w or 0)
    energy = (flex.soc_wh, flex.cap_wh)
    if not (min(least_0) >= 0 and max(map(abs, (*least_0, *either))) <= MAX_W and 0 <= min(energy) <= max(energy) <= MAX_WH):
        raise WireError("flex out of range")
    if len(flex.digest) > 32 or len(flex.kind or "") > 32:
        raise WireError("digest or kind of flex too long")


def _check_info(info: Info) -> None:
    if len(info.siblings) > 256 or not all(is_id(id_) and 0 <= n <= MAX_VERSION for id_, n in info.siblings.items()):
        raise WireError("siblings out of form")


def _check_tariff(tariff: Tariff) -> None:
    if len(tariff.past) > MAX_PAST:
        raise WireError("too many tariffs of the past")
    every: list[Tariff | Rates] = [tariff, *tariff.past]
    for rates in every:
        prices = (rates.import_u, rates.export_u, rates.floor_u, rates.cap_u)
        if any(abs(price_u) > 10**12 for price_u in prices) or rates.export_u > rates.import_u:
            raise WireError("tariff out of range")
        _check_slot(rates.slot_s)
        if not 0 <= rates.from_slot * rates.slot_s <= MAX_UNIX_S:
            raise WireError("tariff from no slot")


def _check_energy(energy: Energy, kind: str) -> None:
    """Registers that fall are let through: they are not counted, and everybody sees whose they are."""
    if not 0 <= energy.day <= 10**7 or kind != energy_kind(energy.day):
        raise WireError("not a day of this topic")
    _check_slot(energy.slot_s)
    slots = DAY_S // energy.slot_s
    if not 0 <= energy.edges <= energy.edges + len(energy.import_wh) <= slots + 1 or len(energy.import_wh) != len(energy.export_wh):
        raise WireError("edges out of form")
    _check_registers(energy.import_wh, energy.export_wh)
    _check_registers(energy.wanted_wh, energy.avail_wh)
    if len(energy.wanted_wh) not in (0, len(energy.import_wh)):
        raise WireError("registers out of form")
    if not all(0 <= slot < slots and len(fed) <= 32 for slot, fed in energy.feeder.items()):
        raise WireError("feeder of no slot")
    if not all(0 <= slot < slots and len(why) <= 64 for slot, why in energy.flags.items()):
        raise WireError("flags out of form")
    if not 0 <= (energy.rated_w or 0) <= MAX_W:
        raise WireError("rated_w out of range")
    if not ID.fullmatch(energy.zone):
        raise WireError("not a zone")


def _check_registers(ones: list[int | None], others: list[int | None]) -> None:
    """Of each edge both are known, or neither."""
    if len(ones) != len(others):
        raise WireError("registers out of form")
    for one, other in zip(ones, others, strict=True):
        if (one is None) != (other is None) or not 0 <= (one or 0) <= MAX_WH or not 0 <= (other or 0) <= MAX_WH:
            raise WireError("registers out of form")


def _check_slot(slot_s: int) -> None:
    """A day begins with a slot."""
    if slot_s < 1 or DAY_S % slot_s:
        raise WireError("slot_s out of range")
