"""Modbus over TCP: wrong answers of gateways, connections that fail, and devices that need a rest."""

import socket
import time
from dataclasses import replace

import pytest
from units import SDM120, TIMEOUT_S, TRUE, W, answer, enveloped, right, tcp

from drivers.modbus import Bus, Line, Refusal
from drivers.reading import MeterError
from drivers.register_meter import Meter

WRONG_TCP = {
    "nothing": lambda request: b"",
    "hangs up": lambda request: None,
    "half of it": lambda request: right(request)[:10],
    "another transaction": lambda request: b"\x7f\x7f" + right(request)[2:],
    "no transaction": lambda request: b"\0\0" + right(request)[2:],
    "another protocol": lambda request: request[:2] + b"\0\1" + right(request)[4:],
    "another unit": lambda request: enveloped(request, b"\x02" + answer(request[6:])[1:]),
    "another function": lambda request: enveloped(request, b"\x01\x03" + answer(request[6:])[2:]),
    "an unknown function": lambda request: enveloped(request, b"\x01\x6e\x00"),
    "fewer registers": lambda request: enveloped(request, b"\x01\x04\x02\x00\x01"),
    "more registers": lambda request: enveloped(request, b"\x01\x04\x06" + b"\0" * 6),
    "a byte count that lies": lambda request: enveloped(request, b"\x01\x04\x08\x00\x01"),
    "an odd byte count": lambda request: enveloped(request, b"\x01\x04\x03\x00\x01\x02"),
    "an empty answer": lambda request: enveloped(request, b"\x01"),
    "an exception of another function": lambda request: enveloped(request, b"\x01\x83\x02"),
}


@pytest.mark.parametrize("wrong", WRONG_TCP)
def test_a_wrong_answer_over_tcp_is_an_error_and_the_next_read_is_right(wrong):
    with tcp(lambda request, n: WRONG_TCP[wrong](request) if n == 1 else right(request)) as (gateway, _, meter):
        with pytest.raises(MeterError, match=r"unit 1 on 127.0.0.1:\d+, registers"):
            meter.read(0.0)
        assert meter.read(1.0).values == TRUE
        assert gateway.connections == 2


def test_a_gateway_that_misses_the_unit_says_so():
    with tcp(lambda request, n: enveloped(request, b"\x01\x84\x0b")) as (gateway, _, meter):
        with pytest.raises(Refusal, match="the gateway got no answer from it; check its unit number"):
            meter.read(0.0)
        with pytest.raises(Refusal):
            meter.read(0.0)
        assert gateway.connections == 1


def test_a_refused_connection_is_tried_again_within_five_seconds():
    probe = socket.create_server(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    bus = Bus(Line("127.0.0.1", port, None), TIMEOUT_S)
    meter = Meter(bus, SDM120, 1)
    bus.open()
    bus.open()
    for tenth in range(600):
        with pytest.raises(MeterError, match="is the meter or gateway on"):
            meter.read(tenth / 10)
    assert bus._connect_failures == 5 + 11  # at 0, 0.1, 0.6, 1.6, 3.6 and then every 5 s up to 60 s
    bus.close()


def test_an_impossible_host_name_is_an_error_of_the_read():
    bus = Bus(Line("a..b", 502, None), TIMEOUT_S)
    bus.open()
    with pytest.raises(MeterError, match="no connection"):
        Meter(bus, SDM120, 1).read(0.0)
    bus.close()


def test_a_device_that_needs_a_rest_after_the_connection_gets_it_once_a_connection():
    asked = []

    def script(request, n):
        asked.append(time.monotonic())
        return None if n == 2 else right(request)

    with tcp(script, map_=replace(SDM120, connect_delay_s=0.05)) as (gateway, bus, _):
        assert bus.connect_delay_s == 0.05
        began = time.monotonic()
        bus.read_block(1, W, 0.0)
        assert asked[0] - began >= 0.05
        with pytest.raises(MeterError):
            bus.read_block(1, W, 1.0)
        began = time.monotonic()
        bus.read_block(1, W, 2.0)
        assert asked[2] - began >= 0.05
        assert gateway.connections == 2
