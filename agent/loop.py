"""The one loop: a single thread owns the node; every source only puts events."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from queue import Empty, Queue

from agent.clock import Clock
from agent.events import Effect, Event, Quiet, Stopping, Tick
from agent.node import Node

ROOM = 20_000  # events waiting; a source that is faster waits itself, so that a flood costs no memory
TICK_S = 0.25
SHOW_S = 0.05  # under load the view is shown this often; without load at once


class End(Enum):
    """Why the loop ends."""

    STOP = "stop"
    RESTART = "restart"


Inbox = Queue[Event | End]


@dataclass(slots=True)
class Bell:
    """How a signal asks for the end: its handler can interrupt the queue's own `get`, where a `put` would wait for ever."""

    end: End | None = None


Perform = Callable[[Effect], Event | None]
"""Does one effect; what the node must hear of it at once comes back."""


def step(node: Node, event: Event, now: float, perform: Perform) -> None:
    for effect in node.step(event, now):
        outcome = perform(effect)
        if outcome is not None:
            step(node, outcome, now, perform)


def run(node: Node, inbox: Inbox, bell: Bell, perform: Perform, beat: Callable[[float], None] = lambda now: None) -> End:
    """Serve events until one is an `End`, or the bell has rung; then let the node say its last words."""
    ticked = shown = 0.0
    clock = Clock()
    while True:
        now = time.monotonic()
        if now - ticked >= TICK_S:
            ticked = now
            step(node, Tick(*clock.read(now)), now, perform)
            beat(now)
        try:
            event = inbox.get(timeout=max(0.0, ticked + TICK_S - time.monotonic()))
        except Empty:
            event = None
        event = bell.end or event
        now = time.monotonic()
        if isinstance(event, End):
            step(node, Stopping(), now, perform)
            return event
        if event is not None:
            step(node, event, now, perform)
        idle = inbox.empty()
        if idle or now - shown >= SHOW_S:
            shown = now
            step(node, Quiet(idle), now, perform)


def drain(inbox: Inbox) -> None:
    """Throw away what waits, so that no source hangs on a full queue while everything closes."""
    try:
        while True:
            inbox.get_nowait()
    except Empty:
        pass
