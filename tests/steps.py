"""What a SunSpec device is asked step by step, driven without a line."""

from collections.abc import Callable, Generator
from typing import TypeVar

Step, Answer, Result = TypeVar("Step"), TypeVar("Answer"), TypeVar("Result")


def drive(steps: Generator[Step, Answer | None, Result], answer: Callable[[Step], Answer | None]) -> Result:
    """What comes of the steps when each is answered so."""
    said = None
    while True:
        try:
            step = steps.send(said)
        except StopIteration as done:
            return done.value
        said = answer(step)
