"""SML telegrams made from their values, with right CRCs (SML 1.04), and the power and counters of two made-up meters."""

from drivers.reading import Reading
from drivers.sml import Sml
from drivers.sml_wire import ESCAPE, START

NONE, W, WH, A, V, HZ, VA = b"\x01", 27, 30, 33, 35, 44, 28
SERVER = bytes.fromhex("0a0149534b00047a5544")
IN, OUT, POWER = "1.8.0", "2.8.0", "16.7.0"


def crc(data: bytes, kermit: bool = False) -> bytes:
    """CRC-16/X-25 or /KERMIT bit by bit, low byte first (DIN EN 62056-46)."""
    register = 0 if kermit else 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x8408 if register & 1 else 0)
    return (register if kermit else register ^ 0xFFFF).to_bytes(2, "little")


def octets(data: bytes) -> bytes:
    size = len(data) + 1
    return bytes([size]) + data if size < 16 else bytes([0x80 | (size + 1) >> 4, (size + 1) & 0x0F]) + data


def many(*elements: bytes) -> bytes:
    head = [0x70 | len(elements)] if len(elements) < 16 else [0xF0 | len(elements) >> 4, len(elements) & 0x0F]
    return bytes(head) + b"".join(elements)


def number(value: int, size: int = 4, signed: bool = True) -> bytes:
    return bytes([(0x50 if signed else 0x60) | size + 1]) + value.to_bytes(size, "big", signed=signed)


def u(value: int, size: int = 1) -> bytes:
    return number(value, size, signed=False)


def entry(obis: str, value: bytes, unit: int | None = None, scaler: int | None = None, status: bytes = NONE, f: int = 255) -> bytes:
    name = bytes([1, 0, *map(int, obis.split(".")), f])
    return many(
        octets(name), status, NONE, NONE if unit is None else u(unit), NONE if scaler is None else number(scaler, 1), value, NONE
    )


def wh(obis: str, tenths: int, status: bytes = NONE) -> bytes:
    return entry(obis, u(tenths, 8), WH, -1, status)


def watts(obis: str, value: int, size: int = 4, scaler: int = 0) -> bytes:
    return entry(obis, number(value, size), W, scaler)


def body(*entries: bytes, server: bytes = SERVER, second: bytes = NONE) -> bytes:
    return many(NONE, octets(server), NONE, second, many(*entries), NONE, NONE)


def message(tag: int, content: bytes, n: int = 1, kermit: bool = False) -> bytes:
    head = b"\x76" + octets(bytes([9, 9, 9, n])) + u(0) + u(0) + many(u(tag, 2), content)
    return head + b"\x63" + crc(head, kermit) + b"\0"


def opened(**how) -> bytes:
    return message(0x101, many(NONE, NONE, octets(b"\1\2\3"), octets(SERVER), NONE, u(1)), 1, **how)


def closed(**how) -> bytes:
    return message(0x201, many(NONE), 3, **how)


def framed(*parts: bytes, kermit: bool = False) -> bytes:
    """A telegram of these messages: escapes doubled, padded to four bytes, with its end."""
    inside = b"".join(parts)
    padding = -len(inside) % 4
    whole = START + (inside + bytes(padding)).replace(ESCAPE, ESCAPE * 2) + ESCAPE + bytes([0x1A, padding])
    return whole + crc(whole, kermit)


def telegram(*entries: bytes, kermit: bool = False, **how) -> bytes:
    return framed(opened(kermit=kermit), message(0x701, body(*entries, **how), 2, kermit), closed(kermit=kermit), kermit=kermit)


def seconds(value: int) -> bytes:
    return many(u(1), u(value, 4))


def read(*telegrams: bytes) -> Reading:
    """The last reading of a fresh ear that trusts; it must have found every telegram intact."""
    ear = Sml(trusting=True)
    readings = [reading for data in telegrams for reading in ear.feed(data)]
    assert (len(readings), ear.damaged) == (len(telegrams), 0)
    return readings[-1]


PLAIN = telegram(wh(IN, 123456), wh(OUT, 7), watts(POWER, -1234))

OLD_IN, OLD_OUT, NEW_IN, NEW_OUT, NEW_SLEEPY = u(0x182, 2), u(0x1A2, 2), u(0x1C0104, 4), u(0x1C7904, 4), u(0x1C7804, 4)
RICH = telegram(
    wh(IN, 1989273, NEW_IN),
    wh(OUT, 3149260),
    watts(POWER, 460),
    *(entry(f"{12 + 20 * phase}.7.0", u(2323 + phase, 2), V, -1) for phase in (1, 2, 3)),
    *(entry(f"{11 + 20 * phase}.7.0", u(106 + phase), A, -2) for phase in (1, 2, 3)),
    entry("14.7.0", u(500, 2), HZ, -1),
)
