"""The local door by itself: requests and answers, rubbish, silent clients, its end."""

import errno
import os
import socket
import stat
import threading
from contextlib import suppress

import pytest
from patience import wait_until

from agent import control, runtime
from agent.events import Asked, Forget, Join, Leave, Status


@pytest.fixture
def door(tmp_path):
    asked = []
    folder = tmp_path / ("long-" * 25)  # a socket's own path may have 107 characters at most
    folder.mkdir()
    one = control.Control(folder, asked.append)
    one.open()
    yield folder, one, asked
    one.close()
    one.close()
    assert not (folder / runtime.SOCKET).exists()


def test_requests_come_as_asks_and_answers_go_back(door):
    folder, one, asked = door
    assert stat.S_IMODE((folder / runtime.SOCKET).stat().st_mode) == 0o600
    for do, argument, ask in (
        ("join", "h:1", Join("h:1")),
        ("leave", None, Leave(None)),
        ("leave", "b", Leave("b")),
        ("forget", "c", Forget("c")),
        ("status", None, Status()),
    ):
        answers = []
        thread = threading.Thread(target=lambda d=do, a=argument, got=answers: got.append(control.ask(folder, d, a)))
        thread.start()
        wait_until(lambda: asked, 5)
        event = asked.pop()
        assert event == Asked(event.request, ask)
        one.answer(event.request, b'{"ok":1}')
        thread.join(5)
        assert answers == [b'{"ok":1}\n']
        one.answer(event.request, b"twice harms nothing")


def raw(folder, data):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    fd = os.open(folder, os.O_RDONLY)
    client.connect(f"/proc/self/fd/{fd}/{runtime.SOCKET}")
    os.close(fd)
    client.sendall(data)
    return client


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"rubbish\n",
        b'{"do":"join"}\n',
        b'{"do":"explode"}\n',
        b'{"do":"\xff"}\n',
        b'{"do":"status","x":' + b"[" * 4000 + b"\n",
        b"x" * 10_000 + b"\n",
    ],
)
def test_rubbish_is_hung_up_on(door, data, capfd):
    folder, _, asked = door
    with raw(folder, data) as client, suppress(ConnectionResetError):  # it hung up before it had read all
        assert client.recv(100) == b""
    assert asked == []
    assert capfd.readouterr().err == ""


def test_a_silent_client_blocks_nobody_and_one_that_left_harms_nothing(door, monkeypatch):
    monkeypatch.setattr(control, "PATIENCE_S", 1.0)
    folder, one, asked = door
    with raw(folder, b"") as silent, raw(folder, b'{"do":"status"}\n') as gone:
        wait_until(lambda: asked, 5)
        gone.close()
        one.answer(asked.pop().request, b"{}")
        with raw(folder, b'{"do":"status"}\n') as third:
            wait_until(lambda: asked, 5)
            one.answer(asked.pop().request, b"{}")
            assert third.recv(100) == b"{}\n"
        assert silent.recv(1) == b""  # its patience is over


def test_nobody_behind_the_door(tmp_path):
    with pytest.raises(control.Unreachable, match="No such file"):
        control.ask(tmp_path / "none", "status")
    with pytest.raises(control.Unreachable):
        control.ask(tmp_path, "status")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / runtime.SOCKET))  # left by a kill -9
    stale.close()
    with pytest.raises(control.Unreachable, match="refused"):
        control.ask(tmp_path, "status")
    door = control.Control(tmp_path, lambda event: None)
    door.open()
    with pytest.raises(control.Unreachable, match=r"timed out|no answer"):
        control.ask(tmp_path, "status", wait_s=0.2)
    door.close()


def test_whoever_waits_when_it_closes_is_hung_up_on(door):
    """And nothing of it stays: no thread that still accepts, no descriptor."""
    folder, one, asked = door
    with raw(folder, b'{"do":"status"}\n') as client:
        wait_until(lambda: asked, 5)
        one.close()
        assert client.recv(100) == b""
    assert "control" not in [thread.name for thread in threading.enumerate()]
    late, end = socket.socketpair()
    with end:
        late.sendall(b'{"do":"status"}\n')
        one._listen(end)  # what was read after the close
        assert late.recv(100) == b""
    late.close()
    assert len(asked) == 1


def test_without_a_free_descriptor_the_door_stays(door, monkeypatch):
    folder, _, asked = door
    real, failing = socket.socket.accept, ["one", "two"]

    def accept(server):
        client = real(server)
        if failing:
            failing.pop()
            client[0].close()
            raise OSError(errno.EMFILE, "Too many open files")
        return client

    monkeypatch.setattr(socket.socket, "accept", accept)
    for _ in range(4):  # the first is taken by the accept that waited already
        raw(folder, b'{"do":"status"}\n').close()
    wait_until(lambda: len(asked) == 2 and not failing, 5)
