"""Addresses as people write them."""

import pytest

from agent.address import Address, host_of, to_address


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("solar.local", "solar.local", 1883, "solar.local:1883"),
        ("Solar.LOCAL:1884", "solar.local", 1884, "solar.local:1884"),
        ("192.0.2.7", "192.0.2.7", 1883, "192.0.2.7:1883"),
        ("192.0.2.7:1", "192.0.2.7", 1, "192.0.2.7:1"),
        ("192.0.2.7:65535", "192.0.2.7", 65535, "192.0.2.7:65535"),
        ("127.0.0.1:1883", "127.0.0.1", 1883, "127.0.0.1:1883"),
        ("[2001:DB8:0:0::1]", "2001:db8::1", 1883, "[2001:db8::1]:1883"),
        ("[2001:db8::1]:1884", "2001:db8::1", 1884, "[2001:db8::1]:1884"),
        ("[fe80::1%eth0]:1883", "fe80::1%eth0", 1883, "[fe80::1%eth0]:1883"),
        ("my_pi-2:1883", "my_pi-2", 1883, "my_pi-2:1883"),
    ],
)
def test_addresses(text, host, port, shown):
    address = to_address(text)
    assert address == Address(host, port)
    assert str(address) == shown
    assert to_address(shown) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1883",
        "a:",
        "a:0",
        "a:65536",
        "a:123456",
        "a:b",
        "a b:1",
        "a:1:2",
        "2001:db8::1",  # which colon is the port's?
        "[::1",
        "[solar]:1883",
        "[192.0.2.7]:1883",
        "999.1.1.1",
        "1.2.3",
        "0.0.0.0:1883",
        "[::]:1883",
        "-a:1883",
        "a..b:1",
        "mqtt://a:1883",
        "a\n:1883",
        "é:1883",
        "x" * 64,
        ".".join(["x" * 60] * 5),
    ],
)
def test_no_addresses(text):
    assert to_address(text) is None


def test_hosts():
    assert host_of("0.0.0.0") == "0.0.0.0"
    assert host_of("::") == "::"
    assert host_of("SOLAR") == "solar"
    assert host_of("::ffff:1.2.3.4:5:6:7:8:9") is None
    assert host_of("x" * 63) == "x" * 63
