"""What a value of the configuration can be: each form says so in words, shows an example, and converts or refuses."""

import difflib
import json
import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeGuard

from agent.address import Address, host_of, to_address


class Unfit(Exception):
    """A value not of its form: the TOML text to write `instead`, or a whole sentence as the `way_out`, if either is known."""

    def __init__(self, instead: str = "", way_out: str = "") -> None:
        super().__init__(instead, way_out)
        self.instead, self.way_out = instead, way_out


@dataclass(frozen=True, slots=True)
class Form:
    """What a value must be: `says` so in words, `example` shows one in TOML, `take` converts it or raises Unfit."""

    says: str
    example: str
    take: Callable[[object], Any]


def whole(low: int, high: int, example: int, says: str = "", but: Collection[int] = ()) -> Form:
    def take(value: object) -> int:
        likely = Decimal(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,10}", value) else value
        if isinstance(likely, Decimal):
            if likely.is_finite() and likely.as_tuple().exponent == -3 and low <= 1000 * likely <= high:
                likely *= 1000  # 17.250: so half of Europe writes thousands
            raise Unfit(str(round(likely)) if likely.is_finite() and low <= likely <= high else "")
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high or value in but:
            raise Unfit
        return value

    return Form(says or f"a whole number from {low} to {high}", str(example), take)


def seconds(low: str, high: str) -> Form:
    def take(value: object) -> float:
        if not is_number(value) or not Decimal(low) <= value <= Decimal(high):
            raise Unfit
        return float(value)

    return Form(f"a number of seconds from {low} to {high}", "1.0", take)


def micro(value: object) -> int:
    """Micro-currency, exact: it goes by the digits, because Decimal arithmetic rounds to 28 of them without a word."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,3}([.,][0-9]{1,6})?", value):
        raise Unfit(value.replace(",", "."))
    if not is_number(value) or not -1000 <= value <= 1000:
        raise Unfit
    sign, digits, exponent = Decimal(value).as_tuple()
    assert isinstance(exponent, int)  # the others, "n" and "F", are those of NaN and infinity
    kept = "".join(map(str, digits)).rstrip("0")
    zeros = exponent + len(digits) - len(kept) + 6
    if kept and zeros < 0:
        raise Unfit
    return int(kept + "0" * zeros) * (-1 if sign else 1) if kept else 0


def is_number(value: object) -> TypeGuard[int | Decimal]:
    if isinstance(value, Decimal):
        return value.is_finite()
    return isinstance(value, int) and not isinstance(value, bool)


def one_of(*allowed: str | int, example: str | int) -> Form:
    def take(value: object) -> str | int:
        if isinstance(value, str | int) and not isinstance(value, bool) and value in allowed:
            return value
        names = {str(one).casefold(): one for one in allowed}
        near = difflib.get_close_matches(value.casefold()[:40], names, 1) if isinstance(value, str) else []
        raise Unfit(toml(names[near[0]]) if near else "")

    return Form(f"one of {', '.join(map(toml, allowed))}", toml(example), take)


def a_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Unfit(value.lower() if isinstance(value, str) and value.lower() in ("true", "false") else "")
    return value


def text_of(low: int, high: int, example: str) -> Form:
    def take(value: object) -> str:
        if not isinstance(value, str) or not low <= len(value) <= high:
            raise Unfit
        if any(unicodedata.category(one) in _UNSEEN and one not in _JOINERS for one in value):
            raise Unfit(way_out="Delete the characters that cannot be seen; put text with a backslash between 'single quotes'")
        return value

    return Form(f"text of {low} to {high} characters that can be seen", toml(example), take)


_UNSEEN: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")  # they would garble a log, a terminal or the broker's configuration
_JOINERS: Final = "\u200c\u200d"  # of the same kind, but Persian, Indic scripts and emoji need them


def slug(example: str, reserved: Collection[str] = ()) -> Form:
    def take(value: object) -> str:
        if isinstance(value, str) and _SLUG.fullmatch(value) and value not in reserved:
            return value
        plain = unicodedata.normalize("NFKD", value[:200].casefold()) if isinstance(value, str) else ""
        slug = re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode()).strip("-")[:32].rstrip("-")
        raise Unfit(toml(f"{slug}-1" if slug in reserved else slug) if slug else "")

    says = "1 to 32 of a-z, 0-9 and -, with no - at either end"
    return Form(f"{says}, and not {' or '.join(reserved)}" if reserved else says, toml(example), take)


_SLUG: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def a_currency(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch("[A-Z]{3}", value):
        raise Unfit(toml(value.upper()) if isinstance(value, str) and re.fullmatch("[A-Za-z]{3}", value) else "")
    return value


_SCHEME: Final = re.compile("^[a-z]+://")


def a_host(port_key: str, example: str) -> Form:
    def take(value: object) -> str:
        text = value if isinstance(value, str) else ""
        host, likely = host_of(text), to_address(_SCHEME.sub("", text))
        if host is not None:
            return host
        port = f" and {port_key} = {likely.port}" if likely and re.search(":[0-9]+$", text) else ""
        raise Unfit(toml(likely.host) + port if likely else "")

    return Form("a host name or an IP address, without a port", toml(example), take)


def an_address(value: object) -> Address:
    text = value if isinstance(value, str) else ""
    address = to_address(text)
    if address is None:
        likely = to_address(_SCHEME.sub("", text).rstrip("/")) or to_address(f"[{text}]")
        raise Unfit(toml(str(likely)) if likely else "")
    return address


def a_directory(value: object) -> str:
    text: str = text_of(1, 255, "").take(value)
    if text.startswith("~"):
        raise Unfit(way_out="Write the whole path: the service runs as another user, whose ~ is elsewhere")
    return text


def a_device(value: object) -> str:
    if isinstance(value, int) and 2 <= value <= 65535:
        raise Unfit(way_out=f'For Modbus TCP write host = "192.168.1.50" and tcp_port = {value}')
    text: str = text_of(1, 255, "").take(value)
    return text


def a_time_zone(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch("[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}", value):
        raise Unfit
    return value


def toml(value: str | int) -> str:
    return json.dumps(value)  # what is proposed here is spelled the same in TOML
