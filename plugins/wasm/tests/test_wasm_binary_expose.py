"""The rewriter: everything that can change can be reached, nothing else is different, and the engine takes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_wasm.binary import Exposed, expose, read
from weighbridge_wasm.binary.leb import encode_unsigned
from weighbridge_wasm.binary.sections import CUSTOM, EXPORT, HEADER, IMPORT, MEMORY, TABLE, split

CONFIG_FEATURES = ("gc", "function_references", "exceptions", "memory64", "multi_memory", "threads")


@pytest.fixture(scope="module", name="engine")
def make_engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    for feature in CONFIG_FEATURES:
        setattr(config, f"wasm_{feature}", True)
    return wasmtime.Engine(config)


def wasm(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(f"(module {text})"))


def contents(binary: bytes, *without: int) -> list[tuple[int, bytes]]:
    return [(each.number, binary[each.header : each.end]) for each in split(binary) if each.number not in without]


def instantiate(engine: wasmtime.Engine, binary: bytes, imports: Sequence[Any] = ()) -> tuple[wasmtime.Store, Any]:
    store = wasmtime.Store(engine)
    return store, wasmtime.Instance(store, wasmtime.Module(engine, binary), imports).exports(store)


def described(exposed: Exposed) -> tuple[set[str], set[str], set[str]]:
    facts = exposed.facts
    return (
        {each.export for each in facts.memories},
        {each.export for each in facts.tables},
        {each.export for each in facts.globals if each.export is not None},
    )


def exported(module: wasmtime.Module) -> tuple[set[str], set[str], set[str]]:
    kinds = (wasmtime.MemoryType, wasmtime.TableType, wasmtime.GlobalType)
    memories, tables, globals_ = ({each.name for each in module.exports if isinstance(each.type, k)} for k in kinds)
    return memories, tables, globals_


def test_hidden_state_can_be_reached(engine: wasmtime.Engine) -> None:
    """The values of hidden globals, the bytes of a hidden memory and the size of a hidden table."""
    exposed = expose(
        wasm(
            """(global $sp (mut i32) (i32.const 1234)) (global i32 (i32.const 5)) (global (mut i64) (i64.const -6))
            (memory 1) (table 7 funcref) (data (i32.const 9) "hidden")
            (func (export "push") (global.set $sp (i32.sub (global.get $sp) (i32.const 34))))"""
        )
    )
    store, exports = instantiate(engine, exposed.wasm)
    assert exports["weighbridge:global:0"].value(store) == 1234
    assert exports["weighbridge:global:2"].value(store) == -6
    assert bytes(exports["weighbridge:memory:0"].read(store, 9, 15)) == b"hidden"
    assert exports["weighbridge:table:0"].size(store) == 7
    assert "weighbridge:global:1" not in exports
    exports["push"](store)
    assert exports["weighbridge:global:0"].value(store) == 1200
    exports["weighbridge:global:0"].set_value(store, 99)
    exports["push"](store)
    assert exports["weighbridge:global:0"].value(store) == 65


def test_a_module_without_hidden_state_stays_as_it_is() -> None:
    """The same object: a caller sees at once that nothing was to be done."""
    binary = wasm('(memory (export "m") 1) (global i32 (i32.const 1)) (func (export "f"))')
    assert expose(binary).wasm is binary
    assert expose(HEADER).wasm is HEADER


def test_what_is_rewritten_needs_no_more_rewriting() -> None:
    """Its state has names, and they are its own now."""
    once = expose(wasm('(import "e" "m" (memory 1)) (table 1 funcref) (global (mut i32) (i32.const 1))'))
    twice = expose(once.wasm)
    assert twice.wasm is once.wasm
    assert twice.facts == once.facts


def test_all_other_sections_stay_byte_for_byte() -> None:
    """Also those of names, and those that nobody here knows."""
    binary = wasm(
        """(@custom "first" (before first) "1") (import "e" "f" (func $named (param $p i32))) (memory $mem 1)
        (@custom "middle" (after memory) "22") (global $g (mut i32) (i32.const 1)) (func $inner (local $x i64))
        (export "i" (func $inner)) (data $d (i32.const 0) "abc") (@custom "last" (after last) "333")"""
    )
    rewritten = expose(binary).wasm
    assert contents(rewritten, EXPORT) == contents(binary, EXPORT)
    assert [number for number, _ in contents(binary)].count(CUSTOM) == 4
    assert contents(rewritten) != contents(binary)


def test_a_memory_that_is_wanted_becomes_the_modules_own(engine: wasmtime.Engine) -> None:
    """With its limits and its number: nobody has to provide it, and the code does not see a difference."""
    text = """(import "e" "a" (memory 1 4)) (import "e" "log" (func $log (param i32))) (import "e" "b" (memory 2 2))
        (memory 3) (export "b" (memory 1)) (data (i32.const 5) "zero") (data (memory 1) (i32.const 6) "one")
        (data (memory 2) (i32.const 7) "two")
        (func (export "sizes") (result i32 i32 i32) memory.size 0 memory.size 1 memory.size 2)
        (func (export "work") (call $log (i32.load8_u 1 (i32.const 6))))"""
    exposed = expose(wasm(text))
    module = wasmtime.Module(engine, exposed.wasm)
    assert [(each.module, each.name) for each in module.imports] == [("e", "log")]
    assert [each.export for each in exposed.facts.memories] == ["weighbridge:memory:0", "b", "weighbridge:memory:2"]
    logged: list[int] = []
    store = wasmtime.Store(engine)
    log = wasmtime.Func(store, wasmtime.FuncType([wasmtime.ValType.i32()], []), logged.append)
    exports: Any = wasmtime.Instance(store, module, [log]).exports(store)
    assert exports["sizes"](store) == [1, 2, 3]
    exports["work"](store)
    assert logged == [ord("o")]
    for each, content in zip(exposed.facts.memories, (b"zero", b"one", b"two"), strict=True):
        assert content in bytes(exports[each.export].read(store, 0, 12))
    assert exports["weighbridge:memory:0"].type(store).limits == wasmtime.Limits(1, 4)


def test_a_table_that_is_wanted_becomes_the_modules_own(engine: wasmtime.Engine) -> None:
    """As older compilers want it, and calls through it go where they went."""
    exposed = expose(
        wasm(
            """(type $t (func (result i32))) (import "e" "table" (table 3 funcref)) (table 1 externref)
            (elem (i32.const 1) $f) (func $f (result i32) i32.const 38)
            (func (export "call") (param i32) (result i32) (call_indirect (type $t) (local.get 0)))"""
        )
    )
    store, exports = instantiate(engine, exposed.wasm)
    assert exports["call"](store, 1) == 38
    assert exports["weighbridge:table:0"].size(store) == 3
    assert exports["weighbridge:table:1"].size(store) == 1


def test_tables_that_cannot_be_empty_stay_wanted(engine: wasmtime.Engine) -> None:
    """One of them, and those beside it, whose numbers would change."""
    exposed = expose(
        wasm('(import "e" "a" (table 1 (ref func))) (import "e" "b" (table 1 funcref)) (import "e" "m" (memory 1))')
    )
    module = wasmtime.Module(engine, exposed.wasm)
    assert [each.name for each in module.imports] == ["a", "b"] == [each.name for each in exposed.facts.other_imports]
    assert exported(module) == described(exposed)


def test_missing_sections_are_put_where_they_belong(engine: wasmtime.Engine) -> None:
    """Memories come before tags and globals, tables before memories, exports before the start."""
    exposed = expose(
        wasm(
            """(import "e" "t" (table 1 funcref)) (import "e" "m" (memory 1)) (tag) (global (mut i32) (i32.const 1))
            (func) (start 0) (elem (i32.const 0) 0) (data $d "passive")
            (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 0)))"""
        )
    )
    wasmtime.Module.validate(engine, exposed.wasm)
    numbers = [each.number for each in split(exposed.wasm) if each.number != CUSTOM]
    assert numbers == [1, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11]
    assert not {TABLE, MEMORY, EXPORT} & {each.number for each in split(wasm("(func)"))}
    assert IMPORT not in numbers


def test_a_misleading_name_does_not_lead_astray(engine: wasmtime.Engine) -> None:
    """The module is taken by the engine, and the name in the facts means what they say."""
    exposed = expose(
        wasm(
            """(global (mut i32) (i32.const 38)) (func)
            (export "weighbridge:global:0" (func 0)) (export "weighbridge:global:0'" (func 0))"""
        )
    )
    store, exports = instantiate(engine, exposed.wasm)
    (found,) = exposed.facts.globals
    assert exports[found.export].value(store) == 38


def test_work_is_the_same_after_rewriting(engine: wasmtime.Engine) -> None:
    """Results and the bytes of the memory, call by call, beside the module as it was with its memory provided."""
    text = """(import "e" "m" (memory 1)) (global $n (mut i32) (i32.const 7)) (table 2 funcref)
        (type $t (func (param i32) (result i32))) (elem (i32.const 0) $a $b) (data (i32.const 3) "start")
        (func $a (type $t) (i32.mul (local.get 0) (i32.const 3)))
        (func $b (type $t) (i32.xor (local.get 0) (i32.const 38)))
        (func (export "step") (param i32) (result i32)
          (global.set $n (i32.add (global.get $n)
            (call_indirect (type $t) (global.get $n) (i32.and (local.get 0) (i32.const 1)))))
          (i32.store (i32.and (global.get $n) (i32.const 0xfffc)) (global.get $n))
          (global.get $n))"""
    binary = wasm(text)
    before = wasmtime.Store(engine)
    memory = wasmtime.Memory(before, wasmtime.MemoryType(wasmtime.Limits(1, None)))
    old: Any = wasmtime.Instance(before, wasmtime.Module(engine, binary), [memory]).exports(before)
    after, new = instantiate(engine, expose(binary).wasm)
    for number in range(200):
        assert old["step"](before, number % 3) == new["step"](after, number % 3)
    assert bytes(memory.read(before)) == bytes(new["weighbridge:memory:0"].read(after))


NUMBERS = {"i32": 32, "i64": 64, "f32": 0, "f64": 0}


@attrs.frozen
class Written:
    """A module that was made up, and what it should turn out to have."""

    text: str
    globals: list[tuple[str, bool, int]]
    segments: list[tuple[int, int, bytes]]
    pages: list[int]


def quoted(content: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in content)


@st.composite
def modules(draw: Callable[..., Any]) -> Written:
    """Memories, globals, tables, functions and data, each imported, hidden or exported."""
    fields: list[str] = []
    names = iter(f"n{number}" for number in range(99))

    def export() -> str:
        return f'(export "{next(names)}")' if draw(st.booleans()) else ""

    pages = draw(st.lists(st.integers(1, 3), max_size=3))
    imported = draw(st.integers(0, len(pages)))
    for number, size in enumerate(pages):
        wanted = f'(import "e" "m{number}")' if number < imported else ""
        fields.append(f"(memory {export()} {wanted} {size})")
    for size in draw(st.lists(st.integers(1, 200), max_size=3)):
        fields.append(f"(table {export()} {size} funcref)")
    globals_ = []
    for word in draw(st.lists(st.sampled_from(sorted(NUMBERS)), max_size=150 if draw(st.booleans()) else 4)):
        is_mutable, value = draw(st.booleans()), draw(st.integers(-(1 << 20), 1 << 20))
        type_ = f"(mut {word})" if is_mutable else word
        fields.append(f"(global {export()} {type_} ({word}.const {value}))")
        globals_.append((word, is_mutable, value))
    for params in draw(st.lists(st.lists(st.sampled_from(sorted(NUMBERS)), max_size=4), max_size=4)):
        fields.append(f"(func {export()} (param {' '.join(params)}) (local i64) unreachable)")
    segments = []
    for content in draw(st.lists(st.binary(max_size=200), max_size=4)) if pages else ():
        memory, offset = draw(st.integers(0, len(pages) - 1)), draw(st.integers(0, 65_536 - 200))
        fields.append(f'(data (memory {memory}) (i32.const {offset}) "{quoted(content)}")')
        segments.append((memory, offset, content))
    return Written(" ".join(fields), globals_, segments, pages)


def with_custom_sections(binary: bytes, draw: Callable[..., Any]) -> bytes:
    """The same module with sections that mean nothing, wherever they may be."""
    parts = [HEADER]
    for _, section in contents(binary):
        for payload in draw(st.lists(st.binary(max_size=20), max_size=2)):
            content = b"\x01x" + payload
            parts.append(b"\0" + encode_unsigned(len(content)) + content)
        parts.append(section)
    return b"".join(parts)


@given(written=modules(), data=st.data())
def test_any_module_has_its_state_exposed(engine: wasmtime.Engine, written: Written, data: st.DataObject) -> None:
    """The engine takes what was rewritten, sees the names of the facts, and finds the values that were written."""
    binary = with_custom_sections(wasm(written.text), data.draw)
    exposed = expose(binary)
    module = wasmtime.Module(engine, exposed.wasm)
    assert list(module.imports) == []
    assert exported(module) == described(exposed)
    store, exports = instantiate(engine, exposed.wasm)
    for (word, is_mutable, value), found in zip(written.globals, exposed.facts.globals, strict=True):
        assert (found.type, found.is_mutable) == (word, is_mutable)
        assert found.export is None or exports[found.export].value(store) == value
    assert [(each.memory, each.offset, bytes(each.content)) for each in exposed.facts.segments] == written.segments
    expected = [bytearray(size * 65_536) for size in written.pages]
    for memory, offset, content in written.segments:
        expected[memory][offset : offset + len(content)] = content
    assert [bytes(exports[each.export].read(store)) for each in exposed.facts.memories] == expected


@given(written=modules(), data=st.data())
def test_only_imports_exports_and_their_like_change(written: Written, data: st.DataObject) -> None:
    """Whatever the module, all other sections are the same, in the same order."""
    binary = with_custom_sections(wasm(written.text), data.draw)
    changed = (IMPORT, TABLE, MEMORY, EXPORT)
    exposed = expose(binary)
    assert contents(exposed.wasm, *changed) == contents(binary, *changed)
    assert exposed.facts == read(binary)
    assert expose(exposed.wasm).wasm is exposed.wasm


def test_a_module_is_not_printed() -> None:
    """Megabytes do not belong into a log."""
    assert re.match(r"Exposed\(facts=ModuleFacts\(", repr(expose(wasm("(memory 1)"))))
