"""wifi.toml of the boot partition: the networks it tells, and the files that iwd and systemd-networkd read of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import pbkdf2_hmac

from agent.config import ConfigError
from agent.forms import Form, Unfit, a_flag, text_of
from agent.keys import REQUIRED, Key, Row, Sheet
from agent.toml_lines import TomlError, read


@dataclass(frozen=True, slots=True)
class Network:
    ssid: str
    password: str | None  # None: an open network
    hidden: bool


@dataclass(frozen=True, slots=True)
class Wifi:
    country: str | None
    networks: tuple[Network, ...]


def _a_country(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch("[A-Z]{2}", value):
        raise Unfit(f'"{value.upper()}"' if isinstance(value, str) and re.fullmatch("[A-Za-z]{2}", value) else "")
    return value


_COUNTRY = Form("two capital letters as in ISO 3166", '"DE"', _a_country)
_ANY = Form("text", '"the password"', lambda value: value)  # checked below: what is said of it must not show it
KEYS = (
    Key("radio", "country", _COUNTRY, None, "the channels that all countries allow"),
    Key("wifi", "ssid", text_of(1, 32, "Oak House"), REQUIRED, "the network's name"),
    Key("wifi", "password", _ANY, None, "an open network"),
    Key("wifi", "hidden", Form("true or false", "true", a_flag), False, "most networks tell their name"),
)


def parse(text: str, name: str) -> Wifi:
    """What `text` tells; ConfigError with every problem at once, none of which shows a password. `name`: its file's."""
    try:
        given, lines = read(text)
    except TomlError as error:
        raise ConfigError(f"{name}:{error.line}: file: {error.what}. {error.way_out}") from error
    sheet = Sheet(lines, KEYS)
    sheet.refuse_unknown((), given, ["radio", "wifi"])
    radio, rows = sheet.take_single("radio", given), sheet.take_rows("wifi", given)
    seen: dict[str, Row] = {}
    for row in rows:
        _check(sheet, row)
        if row.fit("ssid") and (other := seen.setdefault(row.values["ssid"], row)) is not row:
            what = f"the network on line {sheet.line(other.where)} has the same name"
            sheet.say((*row.where, "ssid"), what, "Remove one")
    if sheet.problems:
        raise ConfigError(*(f"{name}:{line}: {problem}" for line, problem in sorted(sheet.problems, key=lambda found: found[0])))
    return Wifi(radio["country"], tuple(Network(**row.values) for row in rows))


def _check(sheet: Sheet, row: Row) -> None:
    ssid, password = row.values.get("ssid", ""), row.values["password"]
    if len(ssid.encode()) > 32:
        sheet.say((*row.where, "ssid"), "longer than 32 bytes in UTF-8, as no network's name is", "Look it up on the router")
    if password is None:
        return
    if not isinstance(password, str):
        sheet.say((*row.where, "password"), "must be text", 'Put it between quotes: password = "..."')
    elif not re.fullmatch("[0-9A-Fa-f]{64}", password):
        size = len(password.encode())
        if not 8 <= size <= 63:  # IEEE 802.11-2020, J.4.1
            sheet.say((*row.where, "password"), f"has {size} bytes, but WPA has 8 to 63", "Look it up on the router")
        elif re.search(r"[\x00-\x1f\x7f]", password):
            sheet.say((*row.where, "password"), "has a character that cannot be seen", "Put it between 'single quotes'")


def files(wifi: Wifi) -> Mapping[str, str]:
    """The files below /, by path, that let iwd and systemd-networkd join these networks: man 5 iwd.network, iwd.config."""
    country = f"Country={wifi.country}\n" if wifi.country else ""
    found = {
        "etc/iwd/main.conf": f"[General]\nEnableNetworkConfiguration=false\n{country}",
        "run/systemd/network/25-grid-wlan.network": WLAN,
    }
    found.update((f"var/lib/iwd/{file_name(network)}", _iwd(network)) for network in wifi.networks)
    return found


WLAN = """\
# Written by grid boot at each start of this card
[Match]
Type=wlan

[Network]
DHCP=ipv4
LinkLocalAddressing=ipv4
IPv6AcceptRA=no
MulticastDNS=yes
# an access point that starts anew is gone for seconds: addresses stay
IgnoreCarrierLoss=10s

[DHCPv4]
ClientIdentifier=mac
RouteMetric=600

[Link]
RequiredForOnline=no
"""


def file_name(network: Network) -> str:
    """A name with anything but letters, digits, space, _ and - is an equal sign and its bytes in hexadecimal."""
    plain = re.fullmatch("[A-Za-z0-9_ -]+", network.ssid)
    return f"{network.ssid if plain else '=' + network.ssid.encode().hex()}.{'open' if network.password is None else 'psk'}"


def _iwd(network: Network) -> str:
    lines = ["[Settings]", "AutoConnect=true", *(["Hidden=true"] if network.hidden else [])]
    password = network.password
    if password is not None:
        lines.append("[Security]")
        if re.fullmatch("[0-9A-Fa-f]{64}", password):
            lines.append(f"PreSharedKey={password.lower()}")
        elif password.isascii():
            escaped = password.replace("\\", "\\\\").replace(" ", "\\s")
            lines.append(f"Passphrase={escaped}")
        else:  # iwd takes ASCII only; WPA2 goes by bytes, and routers take UTF-8
            lines.append(f"PreSharedKey={key(network.ssid, password)}")
    return "\n".join(lines) + "\n"


def key(ssid: str, password: str) -> str:
    """The 256-bit key that WPA2 makes of a password: IEEE 802.11-2020, J.4.1."""
    return pbkdf2_hmac("sha1", password.encode(), ssid.encode(), 4096, 32).hex()
