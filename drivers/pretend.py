"""Pretend telegrams: what a P1 port, an SML meter or a Linky would send for the values given."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from drivers.p1 import crc16
from drivers.reading import Number

Values = Mapping[str, Number]


def p1(values: Values) -> bytes:
    """A telegram of DSMR 5 with CRC."""
    lines = ["/GRD5\\pretended", "", "1-3:0.2.8(50)"]
    for code, name in (("1.8.1", "import_wh"), ("2.8.1", "export_wh")):
        lines.append(f"1-0:{code}({int(values[name]) / 1000:010.3f}*kWh)")
    for plus, minus, name in (("1", "2", "w"), ("21", "22", "w_l1"), ("41", "42", "w_l2"), ("61", "62", "w_l3")):
        watts = int(values[name])
        lines += [f"1-0:{plus}.7.0({max(watts, 0) / 1000:06.3f}*kW)", f"1-0:{minus}.7.0({max(-watts, 0) / 1000:06.3f}*kW)"]
    for volts, amps, phase in (("32", "31", "l1"), ("52", "51", "l2"), ("72", "71", "l3")):
        lines += [f"1-0:{volts}.7.0({values['v_' + phase]:05.1f}*V)", f"1-0:{amps}.7.0({round(values['a_' + phase]):03}*A)"]
    body = ("\r\n".join(lines) + "\r\n!").encode()
    return body + b"%04X\r\n" % crc16(body)


def tic(values: Values) -> bytes:
    """A frame of a Linky in standard mode; it knows no watts but volt-amperes."""
    watts = int(values["w"])
    groups = {
        "ADSC": "012345678901",
        "VTIC": "02",
        "EAST": f"{int(values['import_wh']):09}",
        "EAIT": f"{int(values['export_wh']):09}",
        "IRMS1": f"{round(values['a_l1']):03}",
        "URMS1": f"{round(values['v_l1']):03}",
        "SINSTS": f"{max(watts, 0):05}",
        "SINSTI": f"{max(-watts, 0):05}",
    }
    return b"\x02" + b"".join(_group(label, value) for label, value in groups.items()) + b"\x03"


def _group(label: str, value: str) -> bytes:
    """Enedis-NOI-CPT_54E, 5.3.6: the sum up to and with the last tab, six bits of it, from the space on."""
    body = f"{label}\t{value}\t".encode()
    return b"\n" + body + bytes([(sum(body) & 0x3F) + 0x20]) + b"\r"


_NONE, _ESCAPE = b"\x01", b"\x1b\x1b\x1b\x1b"


def sml(values: Values) -> bytes:
    """A telegram of SML 1.04 with power and both counters."""
    server = bytes.fromhex("0a01475244000000000001")
    entries = [
        _entry((1, 8, 0), 30, -1, int(values["import_wh"]) * 10, 8),
        _entry((2, 8, 0), 30, -1, int(values["export_wh"]) * 10, 8),
        _entry((16, 7, 0), 27, 0, int(values["w"]), 4),
    ]
    parts = [
        _message(1, 0x0101, _list(_NONE, _NONE, _octets(b"\1"), _octets(server), _NONE, _NONE)),
        _message(2, 0x0701, _list(_NONE, _octets(server), _NONE, _NONE, _list(*entries), _NONE, _NONE)),
        _message(3, 0x0201, _list(_NONE)),
    ]
    inside = b"".join(parts).replace(_ESCAPE, _ESCAPE * 2)
    padding = -len(inside) % 4
    whole = _ESCAPE + b"\1\1\1\1" + inside + bytes(padding) + _ESCAPE + bytes([0x1A, padding])
    return whole + _x25(whole)


def _octets(data: bytes) -> bytes:
    return bytes([len(data) + 1]) + data


def _list(*elements: bytes) -> bytes:
    return bytes([0x70 | len(elements)]) + b"".join(elements)


def _number(kind: int, value: int, size: int) -> bytes:
    return bytes([kind | size + 1]) + value.to_bytes(size, "big", signed=kind == 0x50)


def _entry(obis: tuple[int, int, int], unit: int, scaler: int, value: int, size: int) -> bytes:
    name = _octets(bytes([1, 0, *obis, 255]))
    return _list(name, _NONE, _NONE, _number(0x60, unit, 1), _number(0x50, scaler, 1), _number(0x50, value, size), _NONE)


def _message(number: int, tag: int, body: bytes) -> bytes:
    head = b"\x76" + _octets(bytes([number])) + b"\x62\0\x62\0" + _list(_number(0x60, tag, 2), body)
    return head + b"\x63" + _x25(head) + b"\0"


def _x25(data: bytes) -> bytes:
    """CRC-16/X-25, the low byte first (DIN EN 62056-46)."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x8408 if register & 1 else 0)
    return (register ^ 0xFFFF).to_bytes(2, "little")


TELEGRAMS: Mapping[str, Callable[[Values], bytes]] = {"p1": p1, "sml": sml, "tic": tic}

# the quantities that each shows
SHOWN: Mapping[str, tuple[str, ...]] = {
    "p1": ("w", "w_l1", "w_l2", "w_l3", "v_l1", "v_l2", "v_l3", "a_l1", "a_l2", "a_l3", "import_wh", "export_wh"),
    "sml": ("w", "import_wh", "export_wh"),
    "tic": ("w", "v_l1", "a_l1", "import_wh", "export_wh"),
}
