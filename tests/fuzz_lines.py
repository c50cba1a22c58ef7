"""Fuzzed: telegrams, registers and models of meters, and the files that people write."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import sml_telegrams as sml
import telegrams
from fuzz import Target
from mutate import ANY, TEXTS
from steps import drive

from agent import config, wifi
from drivers import catalog, mapfile, registers, sunspec
from drivers.guard import Guard
from drivers.p1 import P1, crc16
from drivers.reading import MeterError
from drivers.registers import Block, MapError
from drivers.sml import Sml
from drivers.sunspec_image import Part, common, image
from drivers.sunspec_models import LAYOUTS
from drivers.tic import Tic

ROOT = Path(__file__).parent.parent

P1S = [telegrams.NETHERLANDS_5, telegrams.BELGIUM, telegrams.SWEDEN, telegrams.DUTCH_2, telegrams.Q3D]
TICS = [telegrams.HISTORIC, telegrams.HISTORIC_3, telegrams.STANDARD, telegrams.PRODUCER, telegrams.THREE]
SMLS = [sml.PLAIN, sml.RICH, sml.telegram(sml.wh(sml.IN, 1), sml.watts(sml.POWER, 3), kermit=True)]
LISTS = [sml.body(sml.wh(sml.IN, 99), sml.wh(sml.OUT, 7), sml.watts(sml.POWER, -5, 8, 2), second=sml.seconds(2**31))]


def _p1(data: bytes, dice: Random) -> None:
    body = data.partition(b"!")[0] + b"!"
    _fed(P1(), data if dice.random() < 0.4 else body + b"%04X\r\n" % crc16(body), dice)


def _tic(data: bytes, dice: Random) -> None:
    """Half of them with every group's checksum made right again."""
    if dice.random() < 0.6:
        groups = [group.strip(b"\r")[:-2] for group in data.strip(b"\x02\x03").split(b"\n") if len(group) > 3]
        tab = b"\t" in data
        sums = [sum(group + (b"\t" if tab else b"")) & 63 for group in groups]
        rows = [b"\n%b%c%c\r" % (group, 9 if tab else 32, 32 + s) for group, s in zip(groups, sums, strict=True)]
        data = b"\x02" + b"".join(rows) + b"\x03"
    _fed(Tic(), data, dice)


def _sml(data: bytes, dice: Random) -> None:
    """As it comes, or as the list of a telegram whose checksums are right."""
    if not data.startswith(sml.START[:1]):
        data = sml.framed(sml.opened(), sml.message(0x701, data[:4000], 2), sml.closed())
    _fed(Sml(dice.random() < 0.5), data, dice)


def _fed(reader: P1 | Tic | Sml, data: bytes, dice: Random) -> None:
    """In two pieces, and once more."""
    at = dice.randrange(len(data) + 1)
    for reading in [*reader.feed(data[:at]), *reader.feed(data[at:] + data)]:
        assert all(isinstance(value, int | float) and abs(value) < 1e30 for value in reading.values.values()), reading


# registers


@cache
def _maps() -> list[registers.Map]:
    return [map_ for map_ in catalog.models().values() if map_.regs]


def _measure(data: bytes, dice: Random) -> None:
    """Any words as the answer of any model."""
    map_ = dice.choice(_maps())
    raw: dict[str, Sequence[int]] = {}
    for name, reg in map_.regs.items():
        words = [int.from_bytes(data[i : i + 2], "big") for i in range(0, 2 * reg.count, 2)]
        data = data[2 * reg.count :] + data[: 2 * reg.count]
        raw[name] = dice.choice((words, [0x8000, *[0] * 9][: reg.count], [0x7FC0, *[0] * 9][: reg.count], [0xFFFF] * reg.count))
    for value in registers.measure(map_, raw).values.values():
        assert value == value, "not a number"


def _pack(words: dict[int, int]) -> bytes:
    return b"".join(words[at].to_bytes(2, "big") for at in sorted(words))


DEVICES = [_pack(image([common("Acme"), Part(id_)])) for id_ in LAYOUTS] + [
    _pack(image([common("Fronius"), Part(203), common("SMA"), Part(103), Part(124), Part(160)]))
]
STEPS = 4 * sunspec.MOST_MODELS


def _sunspec(data: bytes, dice: Random) -> None:
    """A device of these words, that now and then refuses: found, fetched and measured in a bounded number of requests."""
    words = {40000 + i // 2: int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data) - 1, 2)}
    if dice.random() < 0.9:
        words |= dict(enumerate(sunspec.MARKER, 40000))
    most, refuses, left = dice.choice((125, 125, 50, 20, 5)), dice.choice((0.0, 0.0, 0.05)), STEPS

    def answer(block: Block) -> list[int] | None:
        nonlocal left
        left -= 1
        assert left, "it does not end"
        assert 0 < block.count <= 125
        assert 0 <= block.address <= 0x10000 - block.count
        wanted = [words.get(at, 0) for at in range(block.address, block.address + block.count)]
        return wanted if block.count <= most and dice.random() >= refuses else None

    models = drive(sunspec.find(dice.choice(("meter", "inverter", "storage", None))), answer)
    looked = [(model, drive(sunspec.fetch(model, 125), answer)[0]) for model in models]
    sunspec.measure(looked)


FRAMES = [b"\x01\x03\x04\x00\x01\x00\x02\x2a\x32", b"\x01\x83\x02\xc0\xf1"]


def _guard(data: bytes, dice: Random) -> None:
    guard = Guard(crc16, lambda missing: None)
    sent = bytes([data[0] if data else 1, 3, 0, 0, 0, dice.choice((1, 2, 125))])
    guard.hook(True, sent)
    heard = guard.hook(False, data)
    assert heard in data


# text

MAPS = [path.read_bytes() for path in sorted((ROOT / "drivers" / "meters").glob("*.toml"))]
SAMPLE = (ROOT / "config" / "grid.toml").read_bytes()
CONFIGS = [SAMPLE, *(b"".join(row.removeprefix(b"#") + b"\n" for row in SAMPLE.split(b"\n") if row[:2] != b"# ") for _ in "1")]


def _config(data: bytes, dice: Random) -> None:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:  # config.load says so
        text = data.decode("latin-1")
    config.parse(text, "grid.toml")


def _map(data: bytes, dice: Random) -> None:
    mapfile.parse(data.decode("utf-8", "replace"), "meter.toml")


def _wifi(data: bytes, dice: Random) -> None:
    wifi.parse(data.decode("utf-8", "replace"), "wifi.toml")


WIFI = [b'[radio]\ncountry = "CH"\n[[wifi]]\nssid = "Oak Lane"\npassword = "correct horse"\nhidden = false\n']
LINES = (
    Target("P1", 70, _p1, P1S, TEXTS),
    Target("TIC", 70, _tic, TICS, TEXTS),
    Target("SML", 70, _sml, [*SMLS, *LISTS, *LISTS], ANY),
    Target("registers", 50, _measure, [bytes(range(256))], ANY),
    Target("SunSpec", 30, _sunspec, DEVICES, ANY, (MeterError,)),
    Target("Modbus frame", 60, _guard, FRAMES, ANY),
    Target("configuration", 10, _config, CONFIGS, TEXTS, (config.ConfigError,)),
    Target("map file", 10, _map, MAPS, TEXTS, (MapError,)),
    Target("wifi file", 10, _wifi, WIFI, TEXTS, (config.ConfigError,)),
)
