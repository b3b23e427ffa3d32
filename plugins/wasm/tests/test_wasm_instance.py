"""Programs and instances, by the private names and by the public ones: calls, memory, globals, limits and resets."""

from __future__ import annotations

import gc
import os
import struct
import sys
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs import (
    DeadlineExceeded,
    InvalidModule,
    OutOfFuel,
    Trapped,
    UnknownFunction,
    WorkError,
)

from weighbridge_wasm.engine import Engine
from weighbridge_wasm.instance import Exited, Instance, Limits
from weighbridge_wasm.program import Program
from weighbridge_wasm.reset import Resetter, open_resetter

TEXT = """(module
  (memory (export "memory") 2) (data (i32.const 100) "pristine")
  (table (export "table") 3 10 funcref)
  (global $hidden (mut i32) (i32.const 5))
  (global $wide (mut i64) (i64.const -6))
  (global $single (mut f32) (f32.const 0.5))
  (global $double (mut f64) (f64.const -0.25))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "sum") (param i32 i64 f32 f64) (result f64)
    (f64.add
      (f64.add (f64.convert_i32_s (local.get 0)) (f64.convert_i64_s (local.get 1)))
      (f64.add (f64.promote_f32 (local.get 2)) (local.get 3))))
  (func (export "swap") (param i32 f64) (result f64 i32) (local.get 1) (local.get 0))
  (func (export "div") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "peek") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "poke") (param i32 i32)
    (i32.store (local.get 0) (local.get 1))
    (global.set $hidden (i32.add (global.get $hidden) (i32.const 1)))
    (global.set $wide (i64.add (global.get $wide) (i64.const 1)))
    (global.set $single (f32.add (global.get $single) (f32.const 1)))
    (global.set $double (f64.add (global.get $double) (f64.const 1))))
  (func (export "counter") (result i32) (global.get $hidden))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func $down (export "down") (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (call $down (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 0))))
  (func $deep (export "deep") (call $deep))
  (func (export "loop") (loop br 0))
  (func (export "refuse") unreachable)
  (func (export "reference") (param externref))
  (func (export "nothing")))"""
MODULE = bytes(wasmtime.wat2wasm(TEXT))

PRISTINE_GLOBALS = (5, 2**64 - 6, struct.unpack("<I", struct.pack("<f", 0.5))[0], 0xBFD0000000000000)


@pytest.fixture(scope="module")
def resetter() -> Iterator[Resetter]:
    with open_resetter() as found:
        yield found


@pytest.fixture(scope="module", params=[True, False], ids=["private", "public"])
def program(request: pytest.FixtureRequest, resetter: Resetter) -> Iterator[Program]:
    with Engine(private=request.param) as engine, Program(engine, MODULE, max_pages=4, resetter=resetter) as made:
        yield made


@pytest.fixture
def instance(program: Program) -> Iterator[Instance]:
    with program.instantiate() as made:
        yield made


@pytest.fixture(params=[True, False], ids=["private", "public"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(private=request.param) as made:
        yield made


def compiled(engine: Engine, text: str, **options: object) -> Program:
    return Program(engine, bytes(wasmtime.wat2wasm(text)), **options)  # type: ignore[arg-type]  # given on as they are


# -- calls -------------------------------------------------------------------------------------------------------------


def test_calls_give_what_the_function_gives(instance: Instance) -> None:
    """Arguments of every type go in; no result is None, one is a value, several are a tuple."""
    assert instance.call("add", (3, 4)) == 7
    assert instance.call("add", (2**32 - 1, 0)) == -1
    assert instance.call("sum", (1, -(2**40), 0.5, 0.25)) == 1 - 2**40 + 0.75
    assert instance.call("sum", (1, 2**64 - 2, 3, 4)) == 6.0
    assert instance.call("swap", (7, 0.5)) == (0.5, 7)
    assert instance.call("nothing") is None


@given(first=st.integers(-(2**31), 2**32 - 1), second=st.integers(-(2**31), 2**32 - 1))
@settings(deadline=None)
def test_sums_are_those_of_32_bits(program: Program, first: int, second: int) -> None:
    """Every pair of numbers goes through the engine and comes back as the sum in 32 bits, signed."""
    with program.instantiate() as instance:
        found = instance.call("add", (first, second))
    assert (found - first - second) % 2**32 == 0
    assert -(2**31) <= found < 2**31


def test_arguments_are_checked_before_anything_runs(instance: Instance) -> None:
    """What does not fit is refused by function, position and type, and spoils nothing."""
    with pytest.raises(TypeError, match=r"add, argument 2: wanted i32, .* had True"):
        instance.call("add", (1, True))
    with pytest.raises(ValueError, match=r"add, argument 1: wanted i32, .* had 4294967296"):
        instance.call("add", (2**32, 1))
    with pytest.raises(TypeError, match=r"add: wanted 2 arguments \(i32, i32\), had 1"):
        instance.call("add", (1,))
    with pytest.raises(TypeError, match=r"reference\(externref\) -> \(\): a reference cannot be passed"):
        instance.call("reference", (None,))  # type: ignore[arg-type]  # it is refused
    assert not instance.is_spoiled


def test_unknown_function_names_the_nearest(instance: Instance) -> None:
    """A name that is not exported is an UnknownFunction, with what may have been meant."""
    with pytest.raises(UnknownFunction, match=r"no function 'count'\. Did you mean 'counter'"):
        instance.call("count")


@pytest.mark.parametrize(
    ("function", "arguments", "code", "says"),
    [
        ("div", (1, 0), "INTEGER_DIVISION_BY_ZERO", "integer divide by zero"),
        ("div", (-(2**31), -1), "INTEGER_OVERFLOW", "integer overflow"),
        ("peek", (-1,), "MEMORY_OUT_OF_BOUNDS", "out of bounds memory access"),
        ("refuse", (), "UNREACHABLE", "unreachable"),
        ("deep", (), "STACK_OVERFLOW", "stack"),
    ],
)
def test_traps_carry_the_code_of_the_engine(
    instance: Instance, function: str, arguments: tuple[int, ...], code: str, says: str
) -> None:
    """A trap is a Trapped with the engine's code and words; the instance is spoiled, the process is not."""
    with pytest.raises(Trapped, match=says) as caught:
        instance.call(function, arguments)
    assert caught.value.code == code
    assert instance.is_spoiled
    assert not instance.reset()
    assert instance.call("add", (3, 4)) == 7


def test_fuel_ends_what_uses_it_up(instance: Instance) -> None:
    """A call with fuel is ended when it has none; one without a limit has enough again."""
    with pytest.raises(OutOfFuel, match="used up its fuel"):
        instance.call("loop", fuel=12_345)
    with pytest.raises(OutOfFuel):
        instance.call("down", (10,), fuel=3)
    assert instance.call("down", (1000,)) == 0
    assert instance.call("down", (10,), fuel=10_000) == 0


@pytest.mark.parametrize("fuel", [-1, 2**64])
def test_fuel_has_to_be_a_number_of_64_bits(instance: Instance, fuel: int) -> None:
    """What would wrap round is refused."""
    with pytest.raises(ValueError, match="fuel is a whole number from 0"):
        instance.call("nothing", fuel=fuel)


def test_passed_deadline_ends_a_call_and_none_after_it(instance: Instance) -> None:
    """A call of no ticks ends at once, the next one without a deadline runs."""
    with pytest.raises(DeadlineExceeded):
        instance.call("loop", deadline_ticks=0)
    assert instance.call("down", (1000,)) == 0
    assert instance.call("down", (10,), deadline_ticks=1000) == 0
    with pytest.raises(ValueError, match="a number of ticks from 0"):
        instance.call("nothing", deadline_ticks=-1)


def test_thousands_of_interruptions_leave_nothing_behind(instance: Instance) -> None:
    """An instance that was interrupted 2,000 times, each time with fuel or time, is right after a reset by force."""
    for round_ in range(1000):
        with pytest.raises(OutOfFuel):
            instance.call("loop", fuel=100 + round_)
        with pytest.raises(DeadlineExceeded):
            instance.call("loop", deadline_ticks=0)
    assert instance.reset(even_spoiled=True)
    assert not instance.is_spoiled
    assert instance.call("add", (3, 4)) == 7


def test_second_thread_is_refused(engine: Engine) -> None:
    """An instance in use refuses every other thread, and its closing; the call that runs is unharmed."""
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        leave.wait(60)

    text = '(module (import "env" "wait" (func $w)) (func (export "f") (result i32) call $w i32.const 7))'
    found = []
    with compiled(engine, text, functions={"env.wait": wait}) as program, program.instantiate() as instance:
        thread = threading.Thread(target=lambda: found.append(instance.call("f")))
        thread.start()
        entered.wait(60)
        for use in (lambda: instance.call("f"), instance.reset, instance.close):
            with pytest.raises(RuntimeError, match="in use"):
                use()
        leave.set()
        thread.join(60)
        assert found == [7]


def test_closed_instance_refuses_everything(program: Program) -> None:
    """After closing, which is fine twice, nothing reaches into memory that is gone."""
    instance = program.instantiate()
    instance.call("add", (3, 4))
    instance.close()
    instance.close()
    uses = (
        lambda: instance.call("add", (3, 4)),
        lambda: instance.memory_bytes,
        lambda: instance.memory_address,
        lambda: instance.read(0, 1),
        lambda: instance.write(0, b"1"),
        lambda: instance.grow(1),
        instance.globals,
        lambda: instance.set_globals(PRISTINE_GLOBALS),
        lambda: instance.set_limits(Limits(max_pages=1, max_table_elements=1)),
        instance.resident_bytes,
        instance.reset,
    )
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()


# -- memory and globals ------------------------------------------------------------------------------------------------


def test_memory_is_read_and_written_within_its_bounds(instance: Instance) -> None:
    """Bytes go in and come out; what is not wholly inside is refused."""
    assert instance.memory_bytes == 2 * 65_536
    assert instance.read(100, 8) == b"pristine"
    for content in (b"bytes", bytearray(b"array"), memoryview(b"views")):
        instance.write(65_534, content)
        assert instance.read(65_534, 5) == bytes(content)
    end = instance.memory_bytes
    instance.write(end, b"")
    assert instance.read(end, 0) == b""
    for address, nbytes in ((end, 1), (end - 1, 2), (-1, 1), (-1, 0), (end + 1, 0), (0, -1), (2**64, 1)):
        with pytest.raises(IndexError, match="not inside of a memory of 131072 bytes"):
            instance.read(address, nbytes)
    with pytest.raises(IndexError):
        instance.write(end - 1, b"12")


def test_hidden_globals_are_seen_and_set_by_their_bits(instance: Instance) -> None:
    """Mutable globals of every number type are read and set, whether or not the module exports them."""
    assert instance.globals() == PRISTINE_GLOBALS
    instance.call("poke", (0, 0))
    assert instance.globals() != PRISTINE_GLOBALS
    instance.set_globals((2**32 - 9, 1, 2, 3))
    assert instance.globals() == (2**32 - 9, 1, 2, 3)
    assert instance.call("counter") == -9
    with pytest.raises(ValueError, match="argument"):
        instance.set_globals((1,))


def test_module_without_a_memory_has_none_of_it(engine: Engine) -> None:
    """Where there is no memory its size is 0, nothing is inside of it, and it does not grow."""
    with compiled(engine, '(module (func (export "f")))') as program, program.instantiate() as instance:
        assert instance.memory_bytes == instance.memory_address == 0
        assert not instance.grow(1)
        with pytest.raises(IndexError):
            instance.read(0, 1)


# -- reset -------------------------------------------------------------------------------------------------------------


def test_reset_makes_pristine(instance: Instance) -> None:
    """After a call that wrote everywhere, memory and globals are those of a fresh instance."""
    for address in (0, 100, 65_532, 131_068):
        instance.call("poke", (address, -1))
    assert instance.reset()
    assert instance.globals() == PRISTINE_GLOBALS
    assert instance.read(100, 8) == b"pristine"
    assert instance.read(0, 100) == bytes(100)
    assert instance.read(108, 131_072 - 108) == bytes(131_072 - 108)


def test_grown_instance_is_not_reset(instance: Instance) -> None:
    """Memory does not shrink, so whoever grew it, an instance that did is used no more."""
    assert instance.call("grow", (1,)) == 2
    assert not instance.reset()


def test_grown_from_outside_is_not_reset_either(instance: Instance) -> None:
    """The same if the host grew it."""
    assert instance.grow(1)
    assert instance.memory_bytes == 3 * 65_536
    assert not instance.reset()


def test_module_that_changes_its_tables_is_never_reset(engine: Engine, resetter: Resetter) -> None:
    """A module with such instructions has the reason among its obstacles, and its instances say no."""
    text = '(module (table $t 3 funcref) (func (export "f") (table.set $t (i32.const 0) (ref.null func))))'
    with compiled(engine, text, resetter=resetter) as program, program.instantiate() as instance:
        assert any("table" in each for each in program.obstacles)
        assert not instance.reset()


def test_without_a_resetter_every_instance_is_used_once(engine: Engine) -> None:
    """A program that is not to reset says so."""
    with Program(engine, MODULE) as program, program.instantiate() as instance:
        assert program.obstacles == ("instances are not to be reset",)
        assert not instance.reset()


def test_kernel_that_refuses_spoils_the_instance(engine: Engine) -> None:
    """If a reset stops half way, the instance is spoiled and not used again."""

    class Refusing:
        name = "refusing"
        largest_bytes = None

        def reset(self, *_: object) -> int:
            raise OSError("no")

        def close(self) -> None:
            pass

    with (
        Program(engine, MODULE, resetter=Resetter(Refusing(), "a test")) as program,
        program.instantiate() as instance,
    ):
        assert not instance.reset()
        assert instance.is_spoiled


def test_what_the_start_wrote_is_part_of_pristine(engine: Engine, resetter: Resetter) -> None:
    """A start function and _initialize have run in a fresh instance, and a reset goes back to what they left."""
    text = """(module (memory (export "m") 1) (global $g (mut i32) (i32.const 0))
      (func $start (i32.store (i32.const 40000) (i32.const 0x1234)))
      (func (export "_initialize")
        (i32.store (i32.const 8) (i32.load (i32.const 40000))) (global.set $g (i32.const 77)))
      (func (export "wipe") (memory.fill (i32.const 0) (i32.const 255) (i32.const 65536)) (global.set $g (i32.const 1)))
      (start $start))"""
    with compiled(engine, text, resetter=resetter) as program, program.instantiate() as first:
        for instance in (first, program.instantiate()):
            fresh = instance.read(0, 65_536)
            assert fresh[8:12] == fresh[40_000:40_004] == b"\x34\x12\0\0"
            instance.call("wipe")
            assert instance.reset()
            assert instance.read(0, 65_536) == fresh
            assert instance.globals() == (77,)
            instance.close()


def test_several_memories_are_all_reset(engine: Engine, resetter: Resetter) -> None:
    """Each memory of a module goes back to its own data."""
    text = """(module (memory $a 1) (memory $b 2) (data (memory $b) (i32.const 9) "b")
      (func (export "peek") (result i32 i32)
        (i32.load8_u $a (i32.const 9)) (i32.load8_u $b (i32.const 9)))
      (func (export "poke") (i32.store8 $a (i32.const 9) (i32.const 1)) (i32.store8 $b (i32.const 9) (i32.const 2))))"""
    with compiled(engine, text, resetter=resetter) as program, program.instantiate() as instance:
        fresh = instance.call("peek")
        instance.call("poke")
        assert instance.call("peek") == (1, 2)
        assert instance.reset()
        assert instance.call("peek") == fresh == (0, ord("b"))


@given(writes=st.lists(st.tuples(st.integers(0, 131_068), st.integers(1, 2**32 - 1)), max_size=40))
@settings(deadline=None, max_examples=40)
def test_random_writes_leave_no_trace(program: Program, writes: list[tuple[int, int]]) -> None:
    """After any writes a reset instance is, to the byte, a fresh one."""
    with program.instantiate() as used, program.instantiate() as fresh:
        for _ in range(2):
            for address, value in writes:
                used.call("poke", (address, value))
            assert used.reset()
        assert used.globals() == fresh.globals()
        assert used.read(0, used.memory_bytes) == fresh.read(0, fresh.memory_bytes)


def test_resident_bytes_follow_what_is_written(program: Program) -> None:
    """An instance that wrote to more pages takes more memory; where nobody knows, it is all of it."""
    with program.instantiate() as instance:
        before = instance.resident_bytes()
        for page in range(16):
            instance.call("poke", (4096 * page, 1))
        assert instance.resident_bytes() >= before
        assert 0 < instance.resident_bytes() <= instance.memory_bytes + 65_536
    with Engine() as engine, Program(engine, MODULE, max_pages=4) as without, without.instantiate() as instance:
        assert instance.resident_bytes() >= instance.memory_bytes


# -- limits ------------------------------------------------------------------------------------------------------------


def test_limit_of_pages_is_exact_and_moves_with_live_instances(instance: Instance) -> None:
    """Memory grows to the last page of its limit and no further, and the limit can be raised and lowered."""
    assert instance.call("grow", (2,)) == 2
    assert instance.call("grow", (1,)) == -1
    instance.set_limits(Limits(max_pages=6, max_table_elements=10))
    assert instance.limits == Limits(max_pages=6, max_table_elements=10)
    assert instance.call("grow", (2,)) == 4
    assert instance.call("grow", (1,)) == -1
    instance.set_limits(Limits(max_pages=1, max_table_elements=10))
    assert instance.call("grow", (1,)) == -1
    assert instance.call("peek", (6 * 65_536 - 4,)) == 0


def test_changed_limits_are_those_of_new_instances(engine: Engine) -> None:
    """A program gives its limits to every instance that it makes from then on."""
    with Program(engine, MODULE, max_pages=4) as program:
        program.set_limits(Limits(max_pages=3, max_table_elements=3))
        with program.instantiate() as instance:
            assert instance.call("grow", (2,)) == -1
            assert instance.call("grow", (1,)) == 2
        with pytest.raises(InvalidModule, match="wanted 2 pages, had max_pages = 1"):
            program.set_limits(Limits(max_pages=1, max_table_elements=3))
        assert program.limits == Limits(max_pages=3, max_table_elements=3)


def test_module_that_begins_above_its_limits_is_refused(engine: Engine) -> None:
    """More memory or a larger table than allowed is an InvalidModule with both numbers."""
    with pytest.raises(InvalidModule, match=r"wanted 2 pages, had max_pages = 1\)"):
        Program(engine, MODULE, max_pages=1)
    with pytest.raises(InvalidModule, match=r"wanted 3 elements, had max_table_elements = 2\)"):
        Program(engine, MODULE, max_table_elements=2)


def test_every_import_that_nobody_provides_is_named(engine: Engine) -> None:
    """All that is missing stands in one error, with types."""
    text = """(module (import "env" "f" (func (param i32) (result i64))) (import "env" "g" (func))
      (import "env" "limit" (global i32)) (import "env" "given" (func)))"""
    with pytest.raises(InvalidModule) as caught:
        compiled(engine, text, functions={"env.given": print})
    assert "function env.f(i32) -> (i64), function env.g() -> (), global env.limit (i32)" in str(caught.value)
    assert "env.given" not in str(caught.value)


@pytest.mark.parametrize(
    "wanted", ['"no_such_call" (func)', '"fd_close" (func (param f64))'], ids=["unknown", "of another type"]
)
def test_wasi_that_does_not_exist_is_refused(engine: Engine, wanted: str) -> None:
    """A function that WASI does not have, or not of that type, makes no program."""
    with pytest.raises(InvalidModule, match="the module cannot be linked"):
        compiled(engine, f'(module (import "wasi_snapshot_preview1" {wanted}))')


def test_code_has_a_size_where_the_engine_tells_it(engine: Engine) -> None:
    """Machine code takes at least a page; by the public names its size is unknown, and a closed program has none."""
    with Program(engine, MODULE) as program:
        found = program.code_bytes
        assert found is None if engine.seam is None else found is not None and found >= 4096
    assert program.code_bytes == 0


def test_shared_memory_is_refused(engine: Engine) -> None:
    """A memory that no limit holds for is no memory that a module may have."""
    with pytest.raises(InvalidModule, match="cannot be limited"):
        compiled(engine, "(module (memory 1 2 shared))")


def test_imported_memory_is_the_instances_own(engine: Engine, resetter: Resetter) -> None:
    """A module that wants its memory from outside gets one, and it is reset and limited as any other."""
    text = """(module (import "env" "memory" (memory 1 9)) (data (i32.const 5) "x")
      (func (export "grow") (result i32) (memory.grow (i32.const 1)))
      (func (export "poke") (i32.store8 (i32.const 5) (i32.const 1))))"""
    with compiled(engine, text, max_pages=1, resetter=resetter) as program, program.instantiate() as instance:
        instance.call("poke")
        assert instance.read(5, 1) == b"\1"
        assert instance.reset()
        assert instance.read(5, 1) == b"x"
        assert instance.call("grow") == -1


def test_start_that_does_not_end_is_ended(engine: Engine) -> None:
    """What runs when an instance is made has limits, too, and its trap is the instance's error."""
    with compiled(engine, "(module (func $f (loop br 0)) (start $f))") as program, pytest.raises(OutOfFuel):
        program.instantiate(fuel=1000)
    with compiled(engine, "(module (func $f unreachable) (start $f))") as program:
        with pytest.raises(Trapped) as caught:
            program.instantiate()
        assert caught.value.code == "UNREACHABLE"


def test_uncaught_exception_of_a_module_is_a_trap(engine: Engine) -> None:
    """A WebAssembly exception that nobody catches ends the call, and the process lives."""
    text = """(module (tag $t (param i32)) (func (export "throw") (throw $t (i32.const 3)))
      (func (export "f") (result i32) (i32.const 7)))"""
    with compiled(engine, text) as program, program.instantiate() as instance:
        for _ in range(3):
            with pytest.raises(WorkError, match="exception"):
                instance.call("throw")
        assert instance.is_spoiled


def test_vectors_go_through_the_private_names_alone() -> None:
    """A v128 is 16 bytes; by the public names it is refused before anything runs."""
    text = '(module (func (export "f") (param v128) (result v128) (i32x4.add (local.get 0) (local.get 0))))'
    with Engine() as engine, compiled(engine, text) as program, program.instantiate() as instance:
        assert instance.call("f", (struct.pack("<4i", 1, 2, 3, 4),)) == struct.pack("<4i", 2, 4, 6, 8)
    with Engine(private=False) as engine, compiled(engine, text) as program, program.instantiate() as instance:
        with pytest.raises(TypeError, match="a v128 needs the private names"):
            instance.call("f", (bytes(16),))
        assert not instance.is_spoiled


def test_wasi_program_that_exits_gives_its_code(engine: Engine) -> None:
    """proc_exit is an Exited with the code, and the instance is spoiled."""
    text = """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 3))))"""
    with compiled(engine, text) as program, program.instantiate() as instance:
        with pytest.raises(Exited, match="exited with code 3") as caught:
            instance.call("_start")
        assert caught.value.code == 3
        assert instance.is_spoiled


# -- ends --------------------------------------------------------------------------------------------------------------


def test_closed_program_makes_no_instances(engine: Engine) -> None:
    """After closing, which is fine twice, nothing is made."""
    program = Program(engine, MODULE)
    program.close()
    program.close()
    for use in (program.instantiate, lambda: program.signature("add")):
        with pytest.raises(ValueError, match="the program is closed"):
            use()


def test_calls_make_no_rings_of_references(program: Program) -> None:
    """Calls, traps, resets and closed instances leave nothing to the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        instance = program.instantiate()
        reference = weakref.ref(instance)
        for _ in range(3):
            instance.call("add", (3, 4))
            with pytest.raises(Trapped):
                instance.call("refuse")
            with pytest.raises(TypeError):
                instance.call("add", ())
            instance.reset(even_spoiled=True)
        instance.close()
        del instance
        assert reference() is None
    finally:
        gc.enable()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="resident bytes are read from /proc")
@pytest.mark.parametrize("private", [True, False])
def test_nothing_leaks_in_instances_and_traps(private: bool) -> None:
    """Of 20,000 instances and 20,000 traps not 150 bytes each stay, once a tenth of them has warmed the process up."""
    rounds = 20_000 if private else 5_000

    def work(program: Program, count: int) -> None:
        with program.instantiate() as trapping:
            for _ in range(count):
                with program.instantiate() as instance:
                    instance.call("poke", (70_000, 1))
                try:
                    trapping.call("div", (1, 0))
                except Trapped:
                    continue
                raise AssertionError("it did not trap")

    with Engine(private=private) as engine, Program(engine, MODULE) as program:
        work(program, rounds // 10)
        gc.collect()
        before = resident_bytes()
        work(program, rounds)
        gc.collect()
        assert resident_bytes() - before < 150 * rounds


def test_several_memories_share_what_one_may_have(engine: Engine) -> None:
    """A module cannot have more by having more memories: each has an equal part."""
    grows = wasmtime.wat2wasm(
        """
        (module (memory 1) (memory $second 1)
          (func (export "first") (param i32) (result i32) (memory.grow (local.get 0)))
          (func (export "second") (param i32) (result i32) (memory.grow $second (local.get 0))))
        """
    )
    with Program(engine, bytes(grows), max_pages=7) as program, program.instantiate() as instance:
        assert [instance.call("first", (2,)), instance.call("second", (3,)), instance.call("second", (2,))] == [
            1,
            -1,
            1,
        ]
        with pytest.raises(InvalidModule, match="1 pages, had max_pages = 1 for 2 memories"):
            program.set_limits(Limits(max_pages=1, max_table_elements=1))


def test_a_call_that_does_not_begin_is_counted_nowhere(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room on Python's stack, the clock does not wait for its deadline, nor keep the instance."""
    asks = bytes(wasmtime.wat2wasm('(module (import "host" "ask" (func $ask)) (func (export "ask") (call $ask)))'))

    def ensure_room() -> None:
        raise RecursionError

    with Program(engine, asks, functions={"host.ask": lambda: None}) as program, program.instantiate() as instance:
        monkeypatch.setattr("weighbridge_wasm.instance.ensure_room", ensure_room)
        with pytest.raises(RecursionError):
            instance.call("ask", deadline_seconds=1.0)
        assert not engine.ticker._running


def test_a_program_may_be_closed_while_an_instance_of_it_is_made(engine: Engine) -> None:
    """What the engine is at work in stays until it is done."""
    starts = bytes(wasmtime.wat2wasm('(module (import "host" "ask" (func $ask)) (start $ask) (func (export "go")))'))
    for _ in range(50):
        made: list[Program] = []
        made.append(Program(engine, starts, functions={"host.ask": partial(_close_all, made)}))
        with made[0].instantiate() as instance:
            assert instance.call("go") is None


def _close_all(programs: list[Program]) -> None:
    for one in programs:
        one.close()
