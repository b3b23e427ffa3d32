"""The engine: what it compiles, and the clock by which calls are ended."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from collections.abc import Callable

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import ConfigurationError, ContextClosed, DeadlineExceeded, InvalidModule

from weighbridge_wasm.access import ENDLESS_TICKS
from weighbridge_wasm.engine import TICK_SECONDS, Engine, Ticker
from weighbridge_wasm.program import Program

EMPTY = bytes(wasmtime.wat2wasm("(module)"))
LOOP = bytes(
    wasmtime.wat2wasm('(module (func (export "loop") (loop br 0)) (func (export "one") (result i32) i32.const 1))')
)


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Ticks:
    """Counts what a ticker does, and ends it after so many waits."""

    def __init__(self, clock: Clock, waits: list[float]) -> None:
        self.count = 0
        self.clock = clock
        self.waits = waits

    def __call__(self) -> None:
        self.count += 1

    def is_set(self) -> bool:
        return not self.waits

    def wait(self, timeout: float | None = None) -> bool:
        self.clock.seconds += self.waits.pop(0)
        return self.is_set()


def test_same_code_is_compiled_once_while_somebody_holds_it() -> None:
    """Whoever asks for the same bytes gets the same module, also from several threads at once."""
    with Engine() as engine:
        found: list[wasmtime.Module] = []
        threads = [threading.Thread(target=lambda: found.append(engine.compile(LOOP))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(module) for module in found}) == 1
        assert engine.compile(EMPTY) is not found[0]


def test_code_goes_with_its_last_holder() -> None:
    """The engine keeps no module that nobody uses."""
    with Engine() as engine:
        module = weakref.ref(engine.compile(LOOP))
        gc.collect()
        assert module() is None


@pytest.mark.parametrize("wasm", [b"", b"\0asm", EMPTY + b"\x63", b"(module)"[:-1]])
def test_what_is_no_module_is_refused_in_words(wasm: bytes) -> None:
    """Bytes that cannot be compiled are an InvalidModule in one line."""
    with Engine() as engine, pytest.raises(InvalidModule, match="the module cannot be compiled: ") as caught:
        engine.compile(wasm)
    assert "\n" not in str(caught.value)


def test_compiled_code_comes_back() -> None:
    """What was serialized is deserialized, and runs."""
    with Engine() as engine:
        code = engine.serialize(engine.compile(LOOP))
        module = engine.deserialize(code)
        assert [each.name for each in module.exports] == ["loop", "one"]


def test_code_of_another_configuration_is_refused() -> None:
    """An engine takes no code that was made by another configuration, and its fingerprint is another one."""
    with Engine(exceptions=True) as engine, Engine(exceptions=False) as other:
        assert engine.fingerprint != other.fingerprint
        plain = wasmtime.Engine()
        code = bytes(wasmtime.Module(plain, EMPTY).serialize())
        with pytest.raises(InvalidModule, match="compiled code cannot be used"):
            engine.deserialize(code)


def test_no_file_is_no_code() -> None:
    """A file that is not there is an InvalidModule."""
    with Engine() as engine, pytest.raises(InvalidModule, match="compiled code cannot be used"):
        engine.deserialize_file("/nowhere/at/all")


def test_closed_engine_compiles_nothing() -> None:
    """After closing, which is fine twice, every use is refused."""
    engine = Engine()
    engine.close()
    engine.close()
    uses: tuple[Callable[[], object], ...] = (
        lambda: engine.compile(EMPTY),
        lambda: engine.deserialize(b""),
        lambda: engine.deserialize_file(""),
    )
    for use in uses:
        with pytest.raises(ValueError, match="the engine is closed"):
            use()


def test_nothing_holds_a_closed_engine() -> None:
    """Neither the ticker nor the seam keep wasmtime's engine alive."""
    engine = Engine()
    native = weakref.ref(engine.native)
    engine.close()
    assert native() is None


# -- the clock ---------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(0, 0.5), max_size=30),
    st.floats(0.001, 100),
    st.floats(0, 0.05),
)
def test_no_deadline_comes_early_and_none_late(passing: list[float], seconds: float, late: float) -> None:
    """However late the ticker runs, the tick of a deadline happens after it, and at the first look one tick later."""
    clock = Clock()
    ticks = Ticks(clock, [])
    ticker = Ticker(ticks, clock)
    ticker.enter(ticks)
    for passed in passing:
        clock.seconds += passed
        ticker.catch_up()
    clock.seconds += late  # the ticker's thread did not get its turn
    deadline = ticks.count + ticker.ticks_until(seconds)
    end = clock.seconds + seconds
    clock.seconds = end - 1e-6
    ticker.catch_up()
    assert ticks.count < deadline
    clock.seconds = end + TICK_SECONDS + 1e-6
    ticker.catch_up()
    assert ticks.count >= deadline


def test_clock_stands_still_while_nobody_has_a_deadline() -> None:
    """Time in which no call has a deadline makes no ticks, and the next call's deadline counts from its begin."""
    clock = Clock()
    ticks = Ticks(clock, [])
    ticker = Ticker(ticks, clock)
    clock.seconds += 3600
    ticker.enter(ticks)
    assert ticker.ticks_until(1.0) == math.ceil(1.0 / TICK_SECONDS)
    ticker.catch_up()
    assert ticks.count == 0


def test_ticker_ticks_by_elapsed_time() -> None:
    """A thread that was held up makes the ticks that are due at once."""
    clock = Clock()
    ticks = Ticks(clock, [TICK_SECONDS, 10 * TICK_SECONDS, 0.0])
    ticker = Ticker(ticks, clock)
    ticker.enter(ticks)
    ticker.run(ticks)
    assert ticks.count == pytest.approx(11, abs=1)


def test_ticker_ends_with_its_token_while_it_stands_still() -> None:
    """A ticker without calls returns when it is told to."""
    engine = Engine()
    stop = threading.Event()
    thread = threading.Thread(target=engine.run_ticker, args=(stop,))
    thread.start()
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_ticker_ends_with_its_engine() -> None:
    """Closing the engine wakes its ticker, which returns."""
    engine = Engine()
    thread = threading.Thread(target=engine.run_ticker, args=(threading.Event(),))
    thread.start()
    engine.close()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_deadline_has_to_be_a_time(seconds: float) -> None:
    """Zero, less, endless and no number are refused."""
    with Engine() as engine, pytest.raises(ConfigurationError, match="a deadline is a number of seconds above 0"):
        engine.deadline_ticks(seconds)


def test_deadline_of_ages_is_one_that_never_comes() -> None:
    """A time beyond what the engine can count is cut, and does not wrap round into the past."""
    with Engine() as engine:
        assert engine.deadline_ticks(1e300) == ENDLESS_TICKS


@pytest.mark.parametrize("private", [True, False])
def test_endless_loop_is_ended_while_others_go_on(private: bool) -> None:
    """A loop ends with its deadline, again and again, and calls of other instances are unharmed."""
    stop = threading.Event()
    with Engine(private=private) as engine:
        thread = threading.Thread(target=engine.run_ticker, args=(stop,))
        thread.start()
        program = Program(engine, LOOP)
        looping, other = program.instantiate(), program.instantiate()
        try:
            for _ in range(3):
                with pytest.raises(DeadlineExceeded) as caught:
                    looping.call("loop", deadline_seconds=0.015)
                assert caught.value.deadline_seconds == 0.015
                assert other.call("one", deadline_seconds=60.0) == 1
                assert looping.call("one") == 1
            assert looping.is_spoiled
            assert not other.is_spoiled
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()


def test_time_that_is_skipped_ends_calls_and_keeps_the_clock_right() -> None:
    """A call that begins in the middle of it, such as a finalizer's, waits for its own deadline and no longer."""
    clock = Clock()
    due: list[int] = []

    def tick() -> None:
        if ticker.nticks == 10:
            ticker.enter("finalizer")
            due.append(ticker.nticks + ticker.ticks_until(1.0))

    ticker = Ticker(tick, clock)
    ticker.skip(1.0)
    assert ticker.nticks == 200
    clock.seconds += 1.0
    ticker.catch_up()
    assert ticker.nticks >= due[0]


def test_no_deadline_is_given_that_would_never_come() -> None:
    """A closed engine ends nothing."""
    ticker = Ticker(lambda: None)
    ticker.close()
    with pytest.raises(ContextClosed):
        ticker.ticks_until(1.0)
