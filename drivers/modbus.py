"""Modbus: units on a serial line or behind a TCP port, asked through pymodbus without ever taking one answer for another."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drivers.guard import Guard
from drivers.reading import MeterError
from drivers.registers import Block, Words, Write

if TYPE_CHECKING:
    from pymodbus.client import ModbusSerialClient, ModbusTcpClient

DRAIN_S = 0.1  # measured: with 0.02 s after a timeout, late answers were still taken for the next one's; with 0.1 s none of 40
DRAIN_MOST_S = 1.0  # a line that is never silent is noise; the strict guard still reads through it
LATE_MOST_S = (
    2.2  # measured: after 2.0 s of silence 5 of 10,000 answers that came up to 2 s late were still taken for the next one's
)
THINK_S = 0.2  # from request to answer; SDM meters take 20 to 60 ms
TURN_S = 0.02  # between two units of a serial line: both must have let go of the wires
# Silence of a unit after its n-th unanswered request; the first is retried at the next poll.
BACKOFF_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
BACKOFF_ALONE_S = 4.0  # a unit alone on its line holds up nobody
RECONNECT_S = (0.0, 0.5, 1.0, 2.0, 5.0)  # after the n-th failed connection; pymodbus' own would grow to 300 s

_REFUSALS: Mapping[int, str] = {
    1: "it does not know this function; is the model right?",
    2: "it has no such register; is the model right?",
    3: "it does not accept this many registers, or this value; is the model right?",
    4: "it reports a failure of its own",
    6: "it is busy",
    10: "the gateway has no path to it; check the gateway's serial settings",
    11: "the gateway got no answer from it; check its unit number, wiring and baud rate",
}


class Refusal(MeterError):
    """The unit answered with a Modbus exception."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Line:
    """Where meters answer: one serial port, or one host and TCP port."""

    host: str | None
    tcp_port: int | None
    port: str | None
    baud: int = 9600
    framing: str = "8N1"

    def __str__(self) -> str:
        return f"{self.host}:{self.tcp_port}" if self.host is not None else f"{self.port} at {self.baud} {self.framing}"


class Bus:
    """One line and its discipline: quiet time, pause between units, drain after silence, back-off, reconnection.

    For one thread. A read blocks for two timeouts at most, plus DRAIN_MOST_S on a noisy serial line or connect_delay_s on TCP.
    """

    def __init__(self, line: Line, timeout_s: float = 0.5) -> None:
        self.line, self.timeout_s = line, timeout_s
        self.units: set[int] = set()
        self.connect_delay_s = 0.0
        self._client: ModbusSerialClient | ModbusTcpClient | None = None
        self._failures: dict[int, int] = {}
        self._not_before: dict[int, float] = {}
        self._why: dict[int, tuple[str, str]] = {}  # unit -> of its failures: what is wrong, and the words for it
        self._owed: dict[int, dict[tuple[int, int], float]] = {}  # unit -> sizes asked for without an answer, and when
        self._connect_failures, self._connect_not_before = 0, 0.0
        self._last_unit, self._last_end, self._drain = -1, 0.0, False

    def expect(self, unit: int, count: int, timeout_s: float, connect_delay_s: float = 0.0) -> None:
        """Before open: a meter will ask `unit` for `count` registers at once, and may be kept waiting for timeout_s.

        It answers nothing in the first connect_delay_s of a TCP connection.
        """
        self.units.add(unit)
        self.timeout_s = max(self.timeout_s, timeout_s)
        self.connect_delay_s = max(self.connect_delay_s, connect_delay_s)
        if self.line.host is None:  # request and answer are 13 bytes and the registers; the meter thinks for a while
            self.timeout_s = max(self.timeout_s, THINK_S + (13 + 2 * count) * 11 / self.line.baud)

    def open(self) -> None:
        """Get ready; the connection is made by the first read, so that a meter that is switched off stops no start."""
        if self._client is not None:
            return
        from pymodbus.client import ModbusSerialClient, ModbusTcpClient  # 0.1 s and 10 MiB: only who has a meter pays
        from pymodbus.framer import FramerRTU

        # Every failure that pymodbus logs reaches our caller as MeterError; its own lines would repeat it on stderr.
        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
        line = self.line
        if line.host is not None:
            self._client = ModbusTcpClient(line.host, port=line.tcp_port or 502, timeout=self.timeout_s, retries=0)
        else:
            self._client = ModbusSerialClient(
                line.port or "",
                baudrate=line.baud,
                bytesize=int(line.framing[0]),
                parity=line.framing[1],
                stopbits=int(line.framing[2]),
                timeout=self.timeout_s,
                retries=0,
                trace_packet=Guard(FramerRTU.compute_CRC, self._rest).hook,
            )

    def close(self) -> None:
        self._hang_up()
        self._client = None

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()  # type: ignore[no-untyped-call]

    def settle(self, unit: int, block: Block | Write, probes: Sequence[Block], now: float) -> None:
        """Before a block is read: make sure that no late answer to an earlier request can be taken for its. Raises MeterError.

        Answers on a serial line carry no number, but a unit answers in order and a size tells requests apart: once a request
        of another size than those unanswered was answered, none of theirs is still to come. `probes` are such requests; without
        one, the unit is left alone until an answer would be too late to be believed.
        """
        owed = {size: at for size, at in self._owed.get(unit, {}).items() if now - at < LATE_MOST_S}
        if (block.fc, block.count) not in owed:
            return
        probe = next((probe for probe in probes if (probe.fc, probe.count) not in owed), None)
        if probe is None:
            raise MeterError(self._why[unit][1])
        self.read_block(unit, probe, now)

    def read_block(self, unit: int, block: Block, now: float) -> Words:
        """The block's words. Raises Refusal when the unit answers that it will not, MeterError when it does not answer well."""
        if self._not_before.get(unit, now) > now:
            raise MeterError(self._why[unit][1])
        return self._ask(self._connected(now), unit, block, now)

    def write(self, unit: int, write: Write, now: float) -> None:
        """Write once, never again by itself. Raises Refusal when the unit says that it did not, MeterError when nobody knows.

        Who writes reads back: an acknowledged write may have been ignored, one without an answer may have been done.
        """
        if self._not_before.get(unit, now) > now:
            raise MeterError(self._why[unit][1])
        self.settle(unit, write, (), now)
        self._ask(self._connected(now), unit, write, now)

    def _ask(self, client: ModbusSerialClient | ModbusTcpClient, unit: int, block: Block | Write, now: float) -> Words:
        from pymodbus import ExceptionResponse, ModbusException
        from pymodbus.exceptions import ConnectionException

        read = client.read_input_registers if block.fc == 4 else client.read_holding_registers
        try:
            self._be_quiet(client, unit)
            if isinstance(block, Write):
                answer = client.write_registers(block.address, list(block.words), device_id=unit)
            else:
                answer = read(block.address, count=block.count, device_id=unit)
        except (ConnectionException, OSError) as error:
            self._hang_up()  # a serial port that is gone stays "connected" in pymodbus 3.13
            broke = "the connection broke; is the adapter plugged in, the gateway on?"
            raise self._failed(unit, block, broke, now) from error
        except ModbusException as error:
            silent = f"no answer within {self.timeout_s:g} s; check power, wiring, unit number and baud rate"
            raise self._failed(unit, block, silent, now) from error
        finally:
            self._last_unit, self._last_end = unit, time.monotonic()
        refused = isinstance(answer, ExceptionResponse)
        ours = answer.dev_id == unit and answer.function_code & 0x7F == block.fc
        if isinstance(block, Write):
            whole = (answer.address, answer.count) == (block.address, block.count)
        else:
            whole = len(answer.registers) == block.count
        if not ours or not (refused or whole):
            raise self._failed(unit, block, "the answer belongs to another request", now)
        self._failures.pop(unit, None)
        self._why.pop(unit, None)
        self._owed.pop(unit, None)
        if refused:
            code = answer.exception_code
            raise Refusal(f"{self._where(unit, block)}: {_REFUSALS.get(code, 'refused')} (exception {code})", code)
        return answer.registers

    def _where(self, unit: int, block: Block | Write) -> str:
        return f"unit {unit} on {self.line}, {block}"

    def _failed(self, unit: int, block: Block | Write, what: str, now: float) -> MeterError:
        """Book the failure; make sure that a late answer cannot meet the next request."""
        failures = self._failures.get(unit, 0) + 1
        self._failures[unit] = failures
        most_s = BACKOFF_S[-1] if len(self.units) > 1 else BACKOFF_ALONE_S
        self._not_before[unit] = now + min(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1], most_s)
        if self.line.host is None:
            self._drain = True
            self._owed.setdefault(unit, {})[block.fc, block.count] = now
        else:
            self._hang_up()  # a new connection has no old answers; it also ends a half-open one
        if self._why.get(unit, ("", ""))[0] != what:  # else the same words, whatever block was asked for: each change is a message
            self._why[unit] = what, f"{self._where(unit, block)}: {what}"
        return MeterError(self._why[unit][1])

    def _connected(self, now: float) -> ModbusSerialClient | ModbusTcpClient:
        client = self._client
        if client is None:
            raise MeterError(f"{self.line}: the bus is closed")
        if client.connected:
            return client
        if now >= self._connect_not_before:
            with suppress(UnicodeError):  # what the standard library says of a host name like "a..b"
                client.connect()
        if client.connected:
            self._connect_failures, self._drain = 0, self.line.host is None
            if not self._drain:
                time.sleep(self.connect_delay_s)
            return client
        if now >= self._connect_not_before:
            self._connect_failures += 1
            self._connect_not_before = now + RECONNECT_S[min(self._connect_failures, len(RECONNECT_S)) - 1]
        way_out = (
            "is the meter or gateway on, in this network, and the address right?"
            if self.line.host is not None
            else "is the adapter plugged in, the user in the group dialout, and no other program using the port?"
        )
        raise MeterError(f"{self.line}: no connection; {way_out}")

    def _be_quiet(self, client: ModbusSerialClient | ModbusTcpClient, unit: int) -> None:
        """Serial only: the 3.5 characters of silence between frames, the pause between units, the drain."""
        if self.line.host is not None:
            return
        if self._drain:
            self._drain_line(client)
        silence_s = max(3.5 * 11 / self.line.baud, 0.00175)  # Modbus over serial line V1.02, 2.5.1.1: 1.75 ms above 19200 baud
        if unit != self._last_unit:
            silence_s = max(silence_s, TURN_S)
        rest_s = self._last_end + silence_s - time.monotonic()
        if rest_s > 0:
            time.sleep(rest_s)

    def _rest(self, missing: int) -> None:
        """Sleep while the rest of an answer crosses the line: pymodbus alone would look every four characters."""
        time.sleep(missing * 10 / self.line.baud)

    def _drain_line(self, client: ModbusSerialClient | ModbusTcpClient) -> None:
        port: Any = client.socket  # pyserial has no types
        end = time.monotonic() + DRAIN_MOST_S
        heard = True
        while heard and time.monotonic() < end:
            time.sleep(DRAIN_S)
            heard = bool(port.read(port.in_waiting))
        self._drain = False
