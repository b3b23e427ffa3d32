"""One at a time for each key."""

from __future__ import annotations

import threading

from weighbridge_wasm.turns import Turns


def test_those_of_one_key_wait_for_each_other_and_for_nobody_else() -> None:
    """One has the turn at a time, and other keys are free."""
    turns = Turns()
    events: list[str] = []
    waits = threading.Event()

    def second() -> None:
        waits.set()
        with turns.turn("key"):
            events.append("second")

    with turns.turn("key"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(30)
        with turns.turn("other"), turns.turn("key"):
            events.append("first")
    thread.join(30)
    assert events == ["first", "second"]


def test_nothing_is_kept_of_a_key() -> None:
    """Hostile names cannot fill the memory."""
    turns = Turns()
    for number in range(3):
        with turns.turn(number):
            pass
    assert not turns._turns
