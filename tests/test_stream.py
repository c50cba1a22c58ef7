"""Lines on which a meter talks: a pty and a TCP gateway, unplugged, closed, in use; and wrong parity."""

import os
import pty
import socket
import termios
import threading
import tty
from contextlib import contextmanager, suppress

import pytest

from drivers.modbus import Line
from drivers.reading import MeterError
from drivers.stream import Stream


@contextmanager
def serial(framing="8N1", baud=9600):
    """(our end of a pty, a stream on the other end)."""
    ours, theirs = pty.openpty()
    tty.setraw(ours)
    stream = Stream(Line(None, None, os.ttyname(theirs), baud, framing))
    try:
        yield ours, theirs, stream
    finally:
        stream.close()
        for end in (ours, theirs):
            with suppress(OSError):
                os.close(end)


def test_bytes_as_they_come():
    with serial() as (ours, _, stream):
        assert stream.read(0.05) == b""
        os.write(ours, b"/ISk5\r\n")
        heard = stream.read(1.0)
        while len(heard) < 7:
            heard += stream.read(1.0)
        assert heard == b"/ISk5\r\n"
        stream.close()
        stream.close()
        assert stream.read(0.05) == b""  # opened again


def test_a_port_that_is_not_there_and_one_that_goes():
    stream = Stream(Line(None, None, "/dev/ttyNONE", 9600, "8N1"))
    with pytest.raises(MeterError, match=r"/dev/ttyNONE at 9600 8N1: .*No such file.*is the adapter plugged in"):
        stream.read(0.05)
    with serial() as (ours, theirs, stream):
        stream.read(0.05)
        os.close(ours)  # unplugged
        os.close(theirs)
        with pytest.raises(MeterError, match="is the adapter plugged in"):
            stream.read(1.0)


def test_a_port_is_not_shared():
    with serial() as (_, _, stream):
        stream.read(0.05)
        with pytest.raises(MeterError, match="no other program using the port"):
            Stream(stream.line).read(0.05)


@pytest.mark.parametrize(("framing", "checked"), [("8N1", False), ("7E1", True), ("8O1", True)])
def test_a_byte_of_wrong_parity_comes_as_nul(framing, checked):
    """A pty has no parity, so only the port's own settings can be looked at: INPCK, and neither dropped nor marked."""
    with serial(framing) as (_, theirs, stream):
        stream.read(0.01)
        flags = termios.tcgetattr(theirs)[0]
        assert bool(flags & termios.INPCK) is checked
        assert not flags & (termios.IGNPAR | termios.PARMRK)


def test_a_tcp_gateway_that_closes_and_comes_back():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        stream = Stream(Line("127.0.0.1", server.getsockname()[1], None))

        def serve():
            for piece in (b"one", b"two"):
                connection, _ = server.accept()
                connection.sendall(piece)
                if piece == b"one":
                    connection.close()
                else:
                    connections.append(connection)

        connections: list[socket.socket] = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert stream.read(2.0) == b"one"
        with pytest.raises(MeterError, match=r"the other end closed the connection; is the gateway on"):
            stream.read(2.0)
        assert stream.read(2.0) == b"two"
        assert stream.read(0.05) == b""
        thread.join(2)
        stream.close()
        connections[0].close()


def test_a_gateway_that_is_off():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    with pytest.raises(MeterError, match=f"127.0.0.1:{port}: .*refused; is the gateway on"):
        Stream(Line("127.0.0.1", port, None)).read(0.05)
