"""Host functions: what they are called with, what they may do, and whose call their exceptions end."""

from __future__ import annotations

import gc
import os
import struct
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import wasmtime
from weighbridge_hookspecs import DeadlineExceeded, InvalidModule, OutOfFuel, Trapped

from weighbridge_wasm.engine import Engine
from weighbridge_wasm.functions import Caller, HostFunction
from weighbridge_wasm.instance import Instance
from weighbridge_wasm.program import Program
from weighbridge_wasm.reset import open_resetter

FAILING_CALLS = int(os.environ.get("WEIGHBRIDGE_WASM_FAILING_CALLS", "100000"))
"""Of all threads together; a tenth of it by the public names, which are slower."""

FAIL = """(module (import "env" "fail" (func $fail (param i32) (result i32)))
  (func (export "fail") (param i32) (result i32) (i32.add (call $fail (local.get 0)) (i32.const 1)))
  (func (export "trap") unreachable))"""


@pytest.fixture(params=[True, False], ids=["private", "public"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(private=request.param) as made:
        yield made


class Mine(Exception):
    """An exception that says whose it is."""


class Answering:
    """Something to hold weakly."""

    def __call__(self, value: int) -> int:
        return value * 2


def compiled(engine: Engine, text: str, functions: Mapping[str, Callable[..., Any]], **options: Any) -> Program:
    return Program(engine, bytes(wasmtime.wat2wasm(text)), functions=functions, **options)


def test_host_functions_get_and_give_values_of_every_type(engine: Engine) -> None:
    """Arguments come as Python's numbers, integers signed; results go back, several as a tuple or a list."""
    seen = []

    def mix(*arguments: object) -> tuple[object, ...]:
        seen.append(arguments)
        return arguments[::-1]

    text = """(module
      (import "env" "mix" (func $mix (param i32 i64 f32 f64) (result f64 f32 i64 i32)))
      (func (export "f") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
        (call $mix (local.get 0) (local.get 1) (local.get 2) (local.get 3))))"""
    with compiled(engine, text, {"env.mix": mix}) as program, program.instantiate() as instance:
        assert instance.call("f", (2**32 - 1, 2**63, 0.5, 0.1)) == (0.1, 0.5, -(2**63), -1)
    assert seen == [(-1, -(2**63), 0.5, 0.1)]


def test_many_host_functions_are_told_apart(engine: Engine) -> None:
    """Each import calls its own function, also one that is wanted twice and under two modules."""
    text = """(module
      (import "a" "f" (func $a (result i32))) (import "b" "f" (func $b (result i32)))
      (import "a" "f" (func $again (result i32))) (import "a" "g.h" (func $dot (result i32)))
      (func (export "f") (result i32 i32 i32 i32) (call $a) (call $b) (call $again) (call $dot)))"""
    functions = {"a.f": lambda: 1, "b.f": lambda: 2, "a.g.h": lambda: 3}
    with compiled(engine, text, functions) as program, program.instantiate() as instance:
        assert instance.call("f") == (1, 2, 1, 3)


def test_caller_reaches_the_memory_that_calls(engine: Engine) -> None:
    """A function that wants the memory reads, writes and grows that of the instance that called it."""

    def shout(caller: Caller, address: int, nbytes: int) -> int:
        caller.write(address, caller.read(address, nbytes).upper())
        assert caller.grow(1)
        assert caller.remaining_seconds() is None
        return caller.memory_bytes

    text = """(module (import "env" "shout" (func $shout (param i32 i32) (result i32))) (memory 1)
      (data (i32.const 10) "quiet") (func (export "f") (result i32) (call $shout (i32.const 10) (i32.const 5))))"""
    functions = {"env.shout": HostFunction(shout, wants_memory=True)}
    with compiled(engine, text, functions) as program, program.instantiate() as first, program.instantiate() as second:
        assert first.call("f") == 2 * 65_536
        assert first.read(10, 5) == b"QUIET"
        assert second.read(10, 5) == b"quiet"


def test_caller_reaches_the_memory_during_the_start(engine: Engine) -> None:
    """A start function's calls find the memory, too; exports cannot be called before it has ended."""
    seen = []

    def log(caller: Caller, address: int) -> None:
        seen.append((caller.memory_bytes, caller.read(address, 5)))
        with pytest.raises(RuntimeError, match="while the start function runs"):
            caller.call("f")

    text = """(module (import "env" "log" (func $log (param i32))) (memory 1) (data (i32.const 10) "early")
      (func $start (call $log (i32.const 10))) (start $start) (func (export "f")))"""
    functions = {"env.log": HostFunction(log, wants_memory=True)}
    with compiled(engine, text, functions) as program, program.instantiate() as instance:
        assert seen == [(65_536, b"early")]
        assert instance.call("f") is None


def test_caller_calls_back_into_the_module(engine: Engine) -> None:
    """A host function may call exports of its caller, as deep as it likes, within the outer call's fuel."""

    def count(caller: Caller, value: int) -> int:
        return 0 if value == 0 else 1 + int(caller.call("f", value - 1))

    text = """(module (import "env" "count" (func $count (param i32) (result i32)))
      (func (export "f") (param i32) (result i32) (call $count (local.get 0))))"""
    functions = {"env.count": HostFunction(count, wants_memory=True)}
    with compiled(engine, text, functions) as program, program.instantiate() as instance:
        assert instance.call("f", (20,)) == 20
        with pytest.raises(OutOfFuel):
            instance.call("f", (20,), fuel=30)


def test_caller_is_of_no_use_afterwards(engine: Engine) -> None:
    """Whoever keeps a caller gets an error from it, and does not keep the instance."""
    kept: list[Caller] = []
    text = '(module (import "env" "keep" (func $keep)) (memory 1) (func (export "f") (call $keep)))'
    functions = {"env.keep": HostFunction(kept.append, wants_memory=True)}
    with compiled(engine, text, functions) as program, program.instantiate() as instance:
        instance.call("f")
        for use in (lambda: kept[0].read(0, 1), lambda: kept[0].write(0, b""), lambda: kept[0].grow(1)):
            with pytest.raises(RuntimeError, match="only while the host function runs"):
                use()


def test_caller_knows_the_time_that_is_left(engine: Engine) -> None:
    """A host function can ask for the rest of its call's deadline; an outer one does not last beyond it."""
    seen = []

    def ask(caller: Caller) -> None:
        seen.append(caller.remaining_seconds())

    text = '(module (import "env" "ask" (func $ask)) (func (export "f") (call $ask)))'
    functions = {"env.ask": HostFunction(ask, wants_memory=True)}
    with compiled(engine, text, functions) as program, program.instantiate() as instance:
        instance.call("f", deadline_seconds=1000.0)
        instance.call("f")
    assert seen[0] is not None
    assert 0 < seen[0] <= 1000
    assert seen[1] is None


@pytest.mark.parametrize("raised", [Mine("mine"), KeyboardInterrupt(), SystemExit(3), Trapped("ours", code="OURS")])
def test_exceptions_come_out_as_they_are(engine: Engine, raised: BaseException) -> None:
    """What a host function raises, of whatever kind, is raised by the call, the very object with its own cause."""
    cause = ValueError("cause")

    def fail(_value: int) -> int:
        raise raised from cause

    with compiled(engine, FAIL, {"env.fail": fail}) as program, program.instantiate() as instance:
        with pytest.raises(type(raised)) as caught:
            instance.call("fail", (7,))
        assert caught.value is raised
        assert caught.value.__cause__ is cause
        assert instance.is_spoiled
        with pytest.raises(Trapped) as trapped:
            instance.call("trap")
        assert trapped.value.code == "UNREACHABLE"


def test_wrong_results_are_the_calls_error(engine: Engine) -> None:
    """A host function that does not keep to the import's type ends the call with a TypeError that says how."""
    says = pytest.raises(TypeError, match=r"env.fail, result 1: wanted i32.*had '7'")
    with compiled(engine, FAIL, {"env.fail": lambda _: "7"}) as program, program.instantiate() as instance, says:
        instance.call("fail", (7,))


def test_wrong_number_of_parameters_is_the_calls_error(engine: Engine) -> None:
    """A host function that takes other parameters than the import has ends the call with its own TypeError."""
    says = pytest.raises(TypeError, match="takes 0 positional arguments")
    with compiled(engine, FAIL, {"env.fail": lambda: 7}) as program, program.instantiate() as instance, says:
        instance.call("fail", (7,))


def test_deadline_of_a_host_function_gets_its_seconds(engine: Engine) -> None:
    """A DeadlineExceeded from inside a host function is completed with the call's deadline."""

    def fail(_value: int) -> int:
        raise DeadlineExceeded("waited for too long")

    with compiled(engine, FAIL, {"env.fail": fail}) as program, program.instantiate() as instance:
        with pytest.raises(DeadlineExceeded) as caught:
            instance.call("fail", (7,), deadline_seconds=1234.5)
        assert caught.value.deadline_seconds == 1234.5


def test_start_function_fails_with_the_hosts_exception(engine: Engine) -> None:
    """What a host function raises while an instance is made is raised by the making."""

    def fail() -> None:
        raise Mine("early")

    text = '(module (import "env" "fail" (func $fail)) (start $fail))'
    with compiled(engine, text, {"env.fail": fail}) as program, pytest.raises(Mine, match="early"):
        program.instantiate()


def test_inner_failures_stay_inner(engine: Engine) -> None:
    """A host function may catch what a call of another instance raised, and its own call goes on."""
    inner: list[Instance] = []

    def fail(value: int) -> int:
        if value == 0:
            raise Mine("inner")
        try:
            inner[0].call("fail", (0,))
        except Mine:
            return 41
        return 0

    with compiled(engine, FAIL, {"env.fail": fail}) as program, program.instantiate() as outer:
        inner.append(program.instantiate())
        assert outer.call("fail", (1,)) == 42
        assert inner[0].is_spoiled
        assert not outer.is_spoiled
        inner[0].close()


def test_exceptions_reach_exactly_the_call_that_caused_them(engine: Engine) -> None:
    """In many failing calls of several threads at once not one raises another one's exception."""

    def fail(value: int) -> int:
        raise Mine(value)

    count = FAILING_CALLS if engine.seam is not None else FAILING_CALLS // 10
    crossed: list[object] = []

    def work(first: int) -> None:
        with program.instantiate() as instance:
            for value in range(first, count, 4):
                try:
                    found: object = instance.call("fail", (value,))
                except Mine as error:
                    if error.args == (value,):
                        continue
                    found = error
                except Exception as error:
                    found = error
                crossed.append(found)

    with compiled(engine, FAIL, {"env.fail": fail}) as program:
        threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert crossed == []


def test_traps_beside_failing_host_functions_stay_traps(engine: Engine) -> None:
    """While other calls fail in the host, a call that traps raises a Trapped, and never the host's exception."""

    def fail(value: int) -> int:
        raise Mine(value)

    found: list[str] = []
    stop = threading.Event()

    def disturb() -> None:
        with program.instantiate() as instance:
            while not stop.is_set():
                with pytest.raises(Mine):
                    instance.call("fail", (7,))

    with compiled(engine, FAIL, {"env.fail": fail}) as program, program.instantiate() as instance:
        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            for _ in range(1000):
                with pytest.raises(Trapped) as caught:
                    instance.call("trap")
                found.append(str(caught.value.code))
        finally:
            stop.set()
            thread.join()
    # by the public names the reason of a trap can be lost to another call, and then that is said
    assert set(found) <= ({"UNREACHABLE"} if engine.seam is not None else {"UNREACHABLE", "None"})


def test_nothing_of_a_host_function_outlives_its_program(engine: Engine) -> None:
    """Once program and instances are closed, nobody holds the function, without the garbage collector's help."""
    function = Answering()
    reference = weakref.ref(function)
    gc.collect()
    gc.disable()
    try:
        with compiled(engine, FAIL, {"env.fail": function}) as program, program.instantiate() as instance:
            assert instance.call("fail", (4,)) == 9
        del function
        assert reference() is None
    finally:
        gc.enable()


def test_closed_program_takes_its_host_functions_with_it(engine: Engine) -> None:
    """An instance that was left open finds no host function any more: an error, and no call into nowhere."""
    program = compiled(engine, FAIL, {"env.fail": Answering()})
    with program.instantiate() as instance:
        program.close()
        with pytest.raises(RuntimeError, match="the program is closed, and its host functions with it"):
            instance.call("fail", (4,))


def test_failing_calls_make_no_rings_of_references(engine: Engine) -> None:
    """An exception that came through a module goes when its last holder lets go."""

    def fail(value: int) -> int:
        raise Mine(value)

    with compiled(engine, FAIL, {"env.fail": fail}) as program, program.instantiate() as instance:
        gc.collect()
        gc.disable()
        try:
            references = []
            for value in range(3):
                try:
                    instance.call("fail", (value,))
                except Mine as error:
                    references.append(weakref.ref(error))
            assert [reference() for reference in references] == [None, None, None]
        finally:
            gc.enable()


def test_references_to_the_host_are_refused(engine: Engine) -> None:
    """An import that takes or gives a reference cannot be given, and the program is not made."""
    text = '(module (import "env" "take" (func (param externref))))'
    with pytest.raises(InvalidModule, match=r"env.take\(externref\) -> \(\): a reference cannot be passed"):
        compiled(engine, text, {"env.take": print})


def test_vectors_to_the_host_need_the_private_names() -> None:
    """A vector reaches a host function as 16 bytes; by the public names its program is not made."""
    text = """(module (import "env" "turn" (func $turn (param v128) (result v128)))
      (func (export "f") (param v128) (result v128) (call $turn (local.get 0))))"""
    functions = {"env.turn": lambda vector: vector[::-1]}
    with Engine() as engine, compiled(engine, text, functions) as program, program.instantiate() as instance:
        assert instance.call("f", (bytes(range(16)),)) == bytes(range(16))[::-1]
    with Engine(private=False) as engine, pytest.raises(InvalidModule, match="a v128 needs the private names"):
        compiled(engine, text, functions)


def test_host_functions_stand_before_those_of_wasi(engine: Engine) -> None:
    """Who passes a function under a WASI name gets the calls, such as to capture what is printed."""
    printed = []

    def write(caller: Caller, _descriptor: int, vectors: int, count: int, written: int) -> int:
        content = b""
        for index in range(count):
            content += caller.read(*struct.unpack("<II", caller.read(vectors + 8 * index, 8)))
        printed.append(content)
        caller.write(written, struct.pack("<I", len(content)))
        return 0

    text = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\05\\00\\00\\00") (data (i32.const 16) "hello")
      (func (export "f") (result i32)
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))) (i32.load (i32.const 32))))"""
    functions = {"wasi_snapshot_preview1.fd_write": HostFunction(write, wants_memory=True)}
    with (
        open_resetter() as resetter,
        compiled(engine, text, functions, resetter=resetter) as program,
        program.instantiate() as instance,
    ):
        assert instance.call("f") == 5
        assert instance.reset()
        assert instance.call("f") == 5
    assert printed == [b"hello", b"hello"]
