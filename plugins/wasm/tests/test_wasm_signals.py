"""Signals and deep recursion where a module calls back into Python: an exception, never a lost one nor a crash."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import wasmtime

from weighbridge_wasm.engine import Engine
from weighbridge_wasm.functions import Caller, HostFunction
from weighbridge_wasm.program import Program
from weighbridge_wasm.signals import Deferral, defer, ensure_room

COUNT = bytes(
    wasmtime.wat2wasm("""(module (import "env" "f" (func $f (param i32) (result i32)))
      (func (export "count") (param i32) (result i32)
        (loop $l (drop (call $f (local.get 0))) (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get 0))
      (func (export "call") (param i32) (result i32) (call $f (local.get 0))))""")
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no timer that sends a signal")


class Alarm(BaseException):
    """What the handler raises."""


@pytest.fixture(params=[True, False], ids=["private", "public"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(private=request.param) as made:
        yield made


@pytest.fixture
def on_alarm() -> Iterator[Callable[[Callable[..., object]], object]]:
    """Sets the handler of SIGALRM for a test."""
    before = signal.getsignal(signal.SIGALRM)
    yield lambda handler: signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def ring(*_: object) -> None:
    raise Alarm


def test_signal_at_any_moment_ends_the_call_with_its_exception(
    engine: Engine, on_alarm: Callable[[Callable[..., object]], object]
) -> None:
    """Wherever a signal comes, in the module or in the host function, its handler's exception is the call's."""
    on_alarm(ring)
    outcomes = []
    later = [0.0]

    def arm_once(value: int) -> int:
        if later:
            signal.setitimer(signal.ITIMER_REAL, later.pop())
        return value

    with Program(engine, COUNT, functions={"env.f": arm_once}) as program:
        for round_ in range(60):
            later[:] = [0.0002 + 0.00002 * round_]
            with program.instantiate() as instance:
                with pytest.raises(Alarm):
                    instance.call("count", (0,))  # all of 2 ** 32, if nothing ended it
                outcomes.append(instance.is_spoiled)
    assert outcomes == [True] * 60
    assert signal.getsignal(signal.SIGALRM) is ring


def test_signal_that_raises_nothing_is_handled_during_the_call(
    engine: Engine, on_alarm: Callable[[Callable[..., object]], object]
) -> None:
    """A handler runs between two host functions, as it would between two lines, and the call goes on."""
    seen: list[int] = []
    on_alarm(lambda *_: seen.append(1))

    def until_seen(value: int) -> int:
        if value == 5:
            signal.raise_signal(signal.SIGALRM)
        return len(seen)

    functions = {"env.f": until_seen}
    with Program(engine, COUNT, functions=functions) as program, program.instantiate() as instance:
        assert instance.call("count", (9,)) == 0
    assert seen == [1]


def test_signal_in_the_last_host_function_is_handled_when_the_call_ends(
    engine: Engine, on_alarm: Callable[[Callable[..., object]], object]
) -> None:
    """What is still pending at the end is raised there, and handlers are put back."""
    on_alarm(ring)

    def last(value: int) -> int:
        signal.raise_signal(signal.SIGALRM)
        return value

    functions = {"env.f": last}
    with Program(engine, COUNT, functions=functions) as program, program.instantiate() as instance:
        with pytest.raises(Alarm):
            instance.call("call", (7,))
        assert signal.getsignal(signal.SIGALRM) is ring


def test_handler_that_a_host_function_sets_stays(
    engine: Engine, on_alarm: Callable[[Callable[..., object]], object]
) -> None:
    """Who sets a handler during a call keeps it afterwards."""
    on_alarm(ring)

    def other(*_: object) -> None:
        return None

    def change(value: int) -> int:
        signal.signal(signal.SIGALRM, other)
        return value

    functions = {"env.f": change}
    with Program(engine, COUNT, functions=functions) as program, program.instantiate() as instance:
        assert instance.call("call", (7,)) == 7
    assert signal.getsignal(signal.SIGALRM) is other


def test_signal_at_the_end_of_a_call_leaves_no_trap_for_the_next(
    engine: Engine, on_alarm: Callable[[Callable[..., object]], object]
) -> None:
    """What ended a call that a signal's exception came after is not taken for the end of the next one."""
    on_alarm(ring)
    text = '(module (func (export "loop") (loop br 0)) (func (export "seven") (result i32) (i32.const 7)))'
    with Program(engine, bytes(wasmtime.wat2wasm(text))) as program, program.instantiate() as instance:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            with pytest.raises(Alarm):
                instance.call("loop", fuel=200_000_000)  # far more than 2 ms take
        except Alarm:  # the machine was so busy that it came before the call
            pass
        assert instance.call("seven") == 7


def test_other_threads_defer_nothing() -> None:
    """Handlers run in the main thread alone, so only its calls have to wait for them."""
    found: list[Deferral | None] = []
    thread = threading.Thread(target=lambda: found.append(defer()))
    thread.start()
    thread.join()
    assert found == [None]


def test_endless_recursion_through_the_host_is_an_error(engine: Engine) -> None:
    """A module and a host function that call each other for ever end in an error, in every thread."""

    def again(caller: Caller, value: int) -> int:
        return int(caller.call("call", value))

    outcomes: list[str] = []

    def work() -> None:
        with program.instantiate() as instance:
            try:
                instance.call("call", (7,))
            except Exception as error:
                outcomes.append(type(error).__name__)

    with Program(engine, COUNT, functions={"env.f": HostFunction(again, wants_memory=True)}) as program:
        work()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert set(outcomes) <= {"RecursionError", "Trapped"}
    assert len(outcomes) == 2


def test_no_room_is_said_before_anything_runs() -> None:
    """Near the end of Python's stack the error comes from here, where it can be raised."""
    ensure_room()
    with pytest.raises(RecursionError):
        ensure_room(sys.getrecursionlimit() + 1)
