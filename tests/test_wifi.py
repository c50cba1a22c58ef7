"""wifi.toml: what it may say, what is said of it when it is wrong (never a password), and the files that iwd reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wifi
from agent.config import ConfigError

PSK = "0123456789abcdef" * 4


def one(ssid: str, password: str | None, hidden: bool = False) -> wifi.Network:
    return wifi.Network(ssid, password, hidden)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        wifi.parse(text, "wifi.toml")
    return [problem.removeprefix("wifi.toml:") for problem in refused.value.problems]


def test_networks_in_their_order_and_the_country() -> None:
    text = (
        '[radio]\ncountry = "DE"\n[[wifi]]\nssid = "Oak House"\npassword = "12345678"\n[[wifi]]\nssid = "Guests"\nhidden = true\n'
    )
    found = wifi.parse(text, "wifi.toml")
    assert found == wifi.Wifi("DE", (one("Oak House", "12345678"), one("Guests", None, True)))


def test_a_password_may_be_the_key_itself() -> None:
    assert wifi.parse(f"[[wifi]]\nssid = 'a'\npassword = '{PSK}'\n", "wifi.toml").networks == (one("a", PSK),)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[radio]\n", "\r\n[radio]\r\n# country = ...\r\n"])
def test_a_file_without_a_network_means_the_cable(text: str) -> None:
    assert wifi.parse(text, "wifi.toml") == wifi.Wifi(None, ())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[wifi]]\nssid = "a"\npassword = "short"\n', "3: wifi[1].password: has 5 bytes, but WPA has 8 to 63."),
        ('[[wifi]]\nssid = "a"\npassword = ""\n', "3: wifi[1].password: has 0 bytes, but WPA has 8 to 63."),
        (f'[[wifi]]\nssid = "a"\npassword = "{"ä" * 32}"\n', "3: wifi[1].password: has 64 bytes, but WPA has 8 to 63."),
        (f'[[wifi]]\nssid = "a"\npassword = "{"x" * 64}"\n', "3: wifi[1].password: has 64 bytes, but WPA has 8 to 63."),
        ('[[wifi]]\nssid = "a"\npassword = 12345678\n', '3: wifi[1].password: must be text. Put it between quotes'),
        ('[[wifi]]\nssid = "a"\npassword = "abc\\tdefgh"\n', "3: wifi[1].password: has a character that cannot be seen. Put it"),
        ('[[wifi]]\npassword = "12345678"\n', "1: wifi[1].ssid: missing (the network's name). Write one under [[wifi]]"),
        ('[[wifi]]\nssid = ""\n', "2: wifi[1].ssid: must be text of 1 to 32 characters that can be seen, not the text ''"),
        (f'[[wifi]]\nssid = "{"ü" * 17}"\n', "2: wifi[1].ssid: longer than 32 bytes in UTF-8, as no network's name is."),
        ('[[wifi]]\nssid = "a"\n[[wifi]]\nssid = "a"\n', "4: wifi[2].ssid: the network on line 1 has the same name. Remove one"),
        ('[[wifi]]\nssid = "a"\nhiden = true\n', "3: wifi[1].hiden: unknown. Did you mean hidden?"),
        ('[wifi]\nssid = "a"\n', "1: wifi: there may be several. Write [[wifi]] with double brackets, once for each wifi"),
        ('ssid = "a"\n', "1: ssid: unknown. It belongs under [[wifi]]"),
        ('[radio]\ncountry = "de"\n', "2: radio.country: must be two capital letters as in ISO 3166, not the text 'de'"),
        ("[radio]\ncountry = 49\n", "2: radio.country: must be two capital letters as in ISO 3166, not 49"),
        ('[[wifi]]\nssid = "a\n', "2: file: not TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, says: str) -> None:
    assert any(problem.startswith(says) for problem in problems(text)), problems(text)


@pytest.mark.parametrize(
    "secret", ['"S3cr3t7"', "73573573573", '"S3cr3t\\u0007abc"', '["S3cr3t!!"]', "{ a = 'S3cr3t!!' }", '"S3cr3t!!']
)
def test_no_message_shows_a_password(secret: str) -> None:
    said = " ".join(problems(f'[[wifi]]\nssid = "a"\npassword = {secret}\n'))
    assert not any(part in said for part in ("S3cr3t", "73573"))


@pytest.mark.parametrize(
    ("ssid", "password", "name"),
    [
        ("Oak House", "12345678", "Oak House.psk"),
        ("a_b-9", None, "a_b-9.open"),
        ("a/b", "12345678", "=612f62.psk"),  # 0x61 / = 0x2f 0x62
        ("../etc", None, "=2e2e2f657463.open"),
        (".", None, "=2e.open"),
        ("Café", "12345678", "=436166c3a9.psk"),
        ("=3d", "12345678", "=3d3364.psk"),  # one that looks encoded
        ('"q"', "12345678", "=227122.psk"),
        ("ﬁve", None, "=efac817665.open"),  # a letter for Unicode, not for iwd
    ],
)
def test_names_of_files_are_encoded_as_iwd_wants_them(ssid: str, password: str | None, name: str) -> None:
    assert wifi.file_name(one(ssid, password)) == name


@given(st.text(min_size=1, max_size=32))
def test_no_name_leads_elsewhere_and_two_networks_never_share_a_file(ssid: str) -> None:
    try:
        name = wifi.file_name(one(ssid, None))
    except UnicodeEncodeError:  # half of a surrogate pair: TOML has none
        return
    assert "/" not in name
    stem = name.removesuffix(".open")
    assert (bytes.fromhex(stem[1:]).decode() if stem[0] == "=" else stem) == ssid


@pytest.mark.parametrize(
    ("password", "line"),
    [
        ("12345678", "Passphrase=12345678"),
        ("  lead and trail ", "Passphrase=\\s\\slead\\sand\\strail\\s"),
        ("back\\slash", "Passphrase=back\\\\slash"),
        ("#=[quo\"te']", "Passphrase=#=[quo\"te']"),
        (PSK.upper(), f"PreSharedKey={PSK}"),
        (None, None),
    ],
)
def test_passwords_are_escaped_as_iwd_wants_them(password: str | None, line: str | None) -> None:
    network = wifi.Wifi(None, (one("IEEE", password),))
    text = wifi.files(network)["var/lib/iwd/IEEE.open" if password is None else "var/lib/iwd/IEEE.psk"]
    expected = "[Settings]\nAutoConnect=true\n" + ("" if line is None else f"[Security]\n{line}\n")
    assert text == expected


def unescape(text: str) -> str:
    """man 5 iwd.network: what follows a backslash."""
    parts = iter(text)
    return "".join({"s": " ", "\\": "\\"}[next(parts)] if part == "\\" else part for part in parts)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=8, max_size=63))
def test_iwd_reads_the_very_password(password: str) -> None:
    line = wifi.files(wifi.Wifi(None, (one("a", password),)))["var/lib/iwd/a.psk"].splitlines()[-1]
    value = line.removeprefix("Passphrase=")
    assert value == value.strip()  # it would be lost there
    assert unescape(value) == password


def test_the_key_of_a_password() -> None:
    # IEEE 802.11-2020, J.4.2, the first test vector
    assert wifi.key("IEEE", "password") == "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"


def test_a_password_beyond_ascii_becomes_the_key_that_phones_make_of_it() -> None:
    text = wifi.files(wifi.Wifi(None, (one("Café", "größer als 8"),)))["var/lib/iwd/=436166c3a9.psk"]
    assert text.splitlines()[-1] == f"PreSharedKey={wifi.key('Café', 'größer als 8')}"
    assert "Passphrase" not in text


def test_hidden_networks_and_the_country() -> None:
    texts = wifi.files(wifi.Wifi("DE", (one("a", None, True),)))
    assert "Hidden=true\n" in texts["var/lib/iwd/a.open"]
    assert texts["etc/iwd/main.conf"] == "[General]\nEnableNetworkConfiguration=false\nCountry=DE\n"
    assert "Country" not in wifi.files(wifi.Wifi(None, ()))["etc/iwd/main.conf"]
