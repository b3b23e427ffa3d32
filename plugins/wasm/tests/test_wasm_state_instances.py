"""Real instances: suspended, and put back into other ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weighbridge_wasm.config import PAGE_BYTES
from weighbridge_wasm.engine import Engine
from weighbridge_wasm.instance import Instance
from weighbridge_wasm.program import Program
from weighbridge_wasm.reset import Resetter, open_resetter
from weighbridge_wasm.state import GlobalValue, Run, Snapshot, capture, memory_at

PAGES = 2
MOST = 6
WASM = bytes(
    wasmtime.wat2wasm(
        """(module
          (memory 2 6)
          (global $count (mut i32) (i32.const 7))
          (global $far (mut i64) (i64.const -1))
          (global $half (mut f32) (f32.const 0.5))
          (global $ratio (mut f64) (f64.const -0.0))
          (global $fixed i32 (i32.const 3))
          (data (i32.const 100) "something at the beginning")
          (data (i32.const 70000) "and something in the second page")
          (func $start (i32.store (i32.const 50000) (i32.const 1234)) (i32.store (i32.const 100) (i32.const 0)))
          (start $start)
          (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
          (func (export "set") (param i32 i64 f32 f64)
            (global.set $count (local.get 0)) (global.set $far (local.get 1))
            (global.set $half (local.get 2)) (global.set $ratio (local.get 3)))
          (func (export "count") (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1))) (global.get $count)))"""
    )
)
SHA = hashlib.sha256(WASM).digest()
KINDS = ("i32", "i64", "f32", "f64")

FILLS = st.tuples(st.just("fill"), st.integers(0, PAGES * PAGE_BYTES - 1), st.integers(0, 3), st.integers(0, 20_000))
GROWTHS = st.tuples(st.just("grow"), st.integers(0, 3))
SETS = st.tuples(
    st.just("set"), st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1), st.floats(width=32), st.floats()
)
CALLS = st.lists(FILLS | FILLS | GROWTHS | SETS | st.tuples(st.just("count")), max_size=8)


@pytest.fixture(scope="module", params=["as the kernel can", "without a scan"])
def resetter(request: pytest.FixtureRequest) -> Iterator[Resetter]:
    without = ("pagemap", "madvise") if request.param == "without a scan" else ()
    with open_resetter(without) as resetter:
        yield resetter


@pytest.fixture(scope="module")
def program(resetter: Resetter) -> Iterator[Program]:
    with Engine() as engine:
        program = Program(engine, WASM, max_pages=MOST, resetter=resetter)
        yield program
        program.close()


def suspended(instance: Instance, resetter: Resetter) -> bytes:
    """What it knows, as bytes."""
    address, nbytes = instance.memory_address, instance.memory_bytes
    runs = capture(memory_at(address, nbytes), resetter.dirty_runs(address, nbytes))
    return Snapshot(
        module_sha256=SHA,
        pages=nbytes // PAGE_BYTES,
        runs=runs,
        globals=tuple(map(GlobalValue, KINDS, instance.globals())),
    ).to_bytes()


def resumed(instance: Instance, state: bytes) -> Instance:
    """It, with what another one knew."""
    snapshot = Snapshot.from_bytes(state)
    assert instance.grow(snapshot.pages - instance.memory_bytes // PAGE_BYTES)
    snapshot.restore(instance.write)
    instance.set_globals([each.bits for each in snapshot.globals])
    return instance


def everything(instance: Instance) -> tuple[bytes, tuple[int, ...]]:
    return instance.read(0, instance.memory_bytes), instance.globals()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS)
def test_resumed_instance_knows_what_the_suspended_one_knew(
    program: Program, resetter: Resetter, calls: list[tuple[str, int]]
) -> None:
    """Whatever was called: memory written, zeroed over a data segment and grown, and globals that nobody exported."""
    with program.instantiate() as first, program.instantiate() as second:
        for name, *arguments in calls:
            if name == "fill":
                arguments[2] = min(arguments[2], PAGES * PAGE_BYTES - arguments[0])
            first.call(name, arguments)
        state = suspended(first, resetter)
        wanted = everything(first)
        assert everything(resumed(second, state)) == wanted
        assert Snapshot.from_bytes(suspended(second, resetter)).globals == Snapshot.from_bytes(state).globals
        assert second.call("count", ()) == first.call("count", ())


def test_suspending_reads_no_page_that_nobody_wrote(program: Program, resetter: Resetter) -> None:
    """The pages in use are the same before and after, where the kernel tells; a snapshot has them and no others."""
    with program.instantiate() as instance:
        instance.call("grow", (MOST - PAGES,))
        instance.call("fill", (PAGE_BYTES, 5, 4096))
        before = instance.resident_bytes()
        snapshot = Snapshot.from_bytes(suspended(instance, resetter))
        assert instance.resident_bytes() == before
    content = {run.offset: run for run in snapshot.runs if run.content is not None}
    assert content[PAGE_BYTES].content is not None
    assert bytes(content[PAGE_BYTES].content[:4096]) == b"\5" * 4096
    if resetter.dirty_runs(0, 0) is not None:
        assert snapshot.content_bytes == 3 * 4096  # what was filled, and what the start function wrote to


def test_pages_of_zeros_that_were_zeros_are_left_out() -> None:
    """A module whose data segments are known: what was written and wiped again costs nothing."""
    memory = bytearray(PAGE_BYTES)
    memory[100:104] = b"data"
    assert capture(memoryview(memory), None, initial=[(100, 104)]) == (Run(0, 4096, bytes(memory[:4096])),)
