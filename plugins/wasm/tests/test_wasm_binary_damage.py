"""Damaged modules: refused, or read; no other end."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import InvalidModule

from weighbridge_wasm.binary import Exposed, expose
from weighbridge_wasm.binary.sections import HEADER, split

RICH = """
(module $rich
  (type $s (struct (field i32 (mut i8)))) (type $a (array (mut i64))) (rec (type $x (sub (func (param (ref null $s))))))
  (import "env" "f" (func $f (param i32 i64) (result f64))) (import "env" "m" (memory 1 300))
  (import "env" "t" (table 3 funcref)) (import "env" "g" (global $base i32)) (import "env" "e" (tag (param i32)))
  (memory $own 1) (table 2 (ref func) (ref.func $h)) (tag (param f32))
  (global $n (mut i32) (i32.const 38)) (global f64 (f64.const 2.5)) (global v128 (v128.const i32x4 1 2 3 4))
  (global (ref $s) (struct.new_default $s)) (global (mut externref) (ref.null extern))
  (global i32 (i32.add (i32.const 3) (i32.mul (i32.const 4) (i32.const 5))))
  (export "m" (memory 0)) (export "h" (func $h)) (export "n" (global $n)) (start $start)
  (elem (i32.const 0) $f) (elem $passive funcref (ref.func $h)) (elem declare func $h)
  (elem (table 0) (i32.const 1) func $h)
  (data (i32.const 100) "abc") (data $d "passive") (data (memory $own) (offset (global.get $base)) "base")
  (func $start) (func $h (param i32) (result i32) (local i32 v128)
    (block (result i32) (br_table 0 0 0 (i32.const 1) (i32.const 2))) (drop)
    (table.set 0 (i32.const 0) (ref.func $h)) (drop (table.grow 0 (ref.null func) (i32.const 1)))
    (i32.store offset=300 (i32.const 4) (i32.const 5)) (data.drop $d) (elem.drop $passive)
    (block (try_table (catch_all 0) nop)) (i32.const 6))
  (func (param v128) (drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (local.get 0) (local.get 0)))))
"""


@pytest.fixture(scope="module", name="rich")
def make_rich() -> bytes:
    """A module with every section and most of what may be in them."""
    return bytes(wasmtime.wat2wasm(RICH))


@pytest.fixture(scope="module", name="engine")
def make_engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.wasm_gc = config.wasm_function_references = config.wasm_exceptions = True
    return wasmtime.Engine(config)


def outcome(binary: bytes) -> Exposed | InvalidModule:
    try:
        return expose(binary)
    except InvalidModule as refused:
        return refused


def is_accepted(engine: wasmtime.Engine, binary: bytes) -> bool:
    try:
        wasmtime.Module.validate(engine, binary)
    except wasmtime.WasmtimeError:
        return False
    return True


def test_a_module_with_everything_is_read(rich: bytes, engine: wasmtime.Engine) -> None:
    """Or what follows would only damage what is refused anyway."""
    exposed = expose(rich)
    assert is_accepted(engine, rich)
    assert is_accepted(engine, exposed.wasm)
    assert len(exposed.facts.segments) == 3
    assert {each.number for each in split(rich)} == set(range(14))
    assert "function 2 uses table.set" in exposed.facts.obstacles


def test_an_error_keeps_nothing_else_alive(rich: bytes) -> None:
    """No other error behind it, with frames in which the whole module is."""
    for damaged in (rich.replace(b"env", b"\xffnv"), HEADER + b"\x01\x05\xff\xff\xff\xff\xff"):
        refused = outcome(damaged)
        assert isinstance(refused, InvalidModule)
        assert refused.__context__ is refused.__cause__ is None


def test_every_truncation_is_refused_or_read(rich: bytes) -> None:
    """A module may end where a section ends; the error names a place within what is left."""
    refused = 0
    for end in range(len(rich)):
        found = outcome(rich[:end])
        if isinstance(found, InvalidModule):
            assert int(found.message.rsplit(" ", 1)[1]) <= end
            refused += 1
    assert refused > len(rich) * 0.9


@pytest.mark.parametrize("byte", [0x00, 0x01, 0x0B, 0x40, 0x7F, 0x80, 0xFF])
def test_every_byte_may_be_any_other(rich: bytes, engine: wasmtime.Engine, byte: int) -> None:
    """What the engine accepts is read, and is accepted once it is rewritten; the rest is refused or read."""
    for position in range(len(HEADER), len(rich)):
        check_against_engine(rich[:position] + bytes([byte]) + rich[position + 1 :], engine)


@given(data=st.data())
def test_several_bytes_may_be_any_others(rich: bytes, engine: wasmtime.Engine, data: st.DataObject) -> None:
    """The same for damage that adds up."""
    damaged = bytearray(rich)
    for position in data.draw(st.lists(st.integers(0, len(rich) - 1), min_size=1, max_size=4)):
        damaged[position] = data.draw(st.integers(0, 255))
    check_against_engine(bytes(damaged), engine)


@given(data=st.data())
def test_bytes_may_be_lost_or_added(rich: bytes, engine: wasmtime.Engine, data: st.DataObject) -> None:
    """Everything behind them has moved."""
    start = data.draw(st.integers(0, len(rich)))
    lost = data.draw(st.integers(0, 5))
    check_against_engine(rich[:start] + data.draw(st.binary(max_size=5)) + rich[start + lost :], engine)


@given(noise=st.binary(max_size=200))
def test_noise_is_refused_or_read(noise: bytes, engine: wasmtime.Engine) -> None:
    """With and without the header of a module."""
    outcome(noise)
    check_against_engine(HEADER + noise, engine)


def check_against_engine(binary: bytes, engine: wasmtime.Engine) -> None:
    """What it accepts is read and understood, in each function, and is accepted once it is rewritten."""
    found = outcome(binary)
    if not is_accepted(engine, binary):
        return
    assert isinstance(found, Exposed), found
    assert not [each for each in found.facts.obstacles if "cannot be examined" in each]
    assert is_accepted(engine, found.wasm)


@given(data=st.data())
def test_a_module_that_was_damaged_is_described_as_the_engine_sees_it(
    rich: bytes, engine: wasmtime.Engine, data: st.DataObject
) -> None:
    """Where damage makes another module of it, its facts are those of the other module."""
    position = data.draw(st.integers(len(HEADER), len(rich) - 1))
    binary = rich[:position] + bytes([data.draw(st.integers(0, 255))]) + rich[position + 1 :]
    if not is_accepted(engine, binary):
        return
    facts = expose(binary).facts
    module = wasmtime.Module(engine, expose(binary).wasm)
    imports = [each for each in module.imports if isinstance(each.type, wasmtime.FuncType)]
    assert [(each.module, each.name) for each in facts.function_imports] == [(i.module, i.name) for i in imports]
    types = {each.name: each.type for each in module.exports}
    for memory in facts.memories:
        limits = types[memory.export].limits  # type: ignore[union-attr]
        assert (memory.minimum_pages, memory.maximum_pages) == (limits.min, limits.max)
    for table in facts.tables:
        limits = types[table.export].limits  # type: ignore[union-attr]
        assert (table.minimum, table.maximum) == (limits.min, limits.max)
    for each in facts.globals:
        assert each.export is None or types[each.export].mutable == each.is_mutable  # type: ignore[union-attr]
    functions = {name for name, type_ in types.items() if isinstance(type_, wasmtime.FuncType)}
    assert functions == set(facts.function_exports)


@pytest.mark.parametrize(
    "section",
    [
        b"\x01\x05\xff\xff\xff\xff\x0f",  # types
        b"\x02\x05\xff\xff\xff\xff\x0f",  # imports
        b"\x03\x05\xff\xff\xff\xff\x0f",  # functions
        b"\x07\x05\xff\xff\xff\xff\x0f",  # exports
        b"\x0b\x05\xff\xff\xff\xff\x0f",  # data
        b"\x01\x06\x01\x4e\xff\xff\xff\x0f",  # types of a group
        b"\x09\x0a\x01\x00\x41\x00\x0b\xff\xff\xff\xff\x0f",  # elements
    ],
)
def test_a_count_is_not_believed(section: bytes) -> None:
    """Four billion things in a section of a few bytes are no reason to make room for them."""
    with pytest.raises(InvalidModule, match=r"had (the end|0|-?\d+ bytes|a number that does not end)"):
        expose(HEADER + section)
