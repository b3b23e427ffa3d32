"""Facts about modules: they agree with what the engine says, and with what was written."""

from __future__ import annotations

from typing import Any

import pytest
import wasmtime
from weighbridge_hookspecs import InvalidModule

from weighbridge_wasm.binary import FunctionImport, FunctionType, GlobalImport, ModuleFacts, OtherImport, read
from weighbridge_wasm.binary.leb import encode_unsigned

ENGINE_FEATURES = ("gc", "function_references", "exceptions", "memory64", "multi_memory", "threads", "tail_call")


def engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    for feature in ENGINE_FEATURES:
        setattr(config, f"wasm_{feature}", True)
    config.shared_memory = True
    return wasmtime.Engine(config)


def wasm(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(f"(module {text})"))


def facts(text: str) -> ModuleFacts:
    """Facts about a module that the engine takes, too."""
    binary = wasm(text)
    wasmtime.Module.validate(engine(), binary)
    return read(binary)


def with_custom(binary: bytes, *contents: bytes, name: bytes = b"weighbridge") -> bytes:
    for content in contents:
        payload = encode_unsigned(len(name)) + name + content
        binary += b"\0" + encode_unsigned(len(payload)) + payload
    return binary


def functions(types: Any) -> dict[str, FunctionType]:
    return {
        each.name: FunctionType(tuple(map(str, each.type.params)), tuple(map(str, each.type.results)))
        for each in types
        if isinstance(each.type, wasmtime.FuncType)
    }


def test_functions_have_the_types_that_the_engine_sees() -> None:
    """Names, values taken and values given, of what is wanted and of what is there."""
    binary = wasm(
        """(import "env" "log" (func (param i32 f64))) (import "env" "now" (func (result i64)))
        (import "env" "base" (global i32))
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
        (func (export "two") (param f32) (result i64 f64) i64.const 1 f64.const 2)
        (func (export "ärger") (param funcref)) (func $hidden (param v128))
        (export "again" (func 0))"""
    )
    module = wasmtime.Module(engine(), binary)
    found = read(binary)
    assert found.function_exports == functions(module.exports)
    assert {each.name: each.type for each in found.function_imports} == functions(module.imports)
    assert found.function_exports["two"] == FunctionType(("f32",), ("i64", "f64"))
    assert [each.module for each in found.function_imports] == ["env", "env"]


def test_wanted_functions_keep_their_order() -> None:
    """Other imports between them do not count."""
    found = facts(
        """(import "a" "f" (func (param i32))) (import "a" "g" (global i64)) (import "b" "m" (memory 1))
        (import "b" "f" (func (param i64)))"""
    )
    assert found.function_imports == (
        FunctionImport("a", "f", FunctionType(("i32",), ())),
        FunctionImport("b", "f", FunctionType(("i64",), ())),
    )


def test_references_have_the_words_of_the_text_format() -> None:
    """A short word where there is one, and else what is written out."""
    found = facts(
        """(rec (type $s (sub (struct (field i8 (mut (ref null $a)))))) (type $a (array (mut i16)))) (type $f (func))
        (type $sub (sub $s (struct (field i8 (mut (ref null $a)) f64)))) (type $open (sub (func)))
        (func (export "f") (param funcref externref (ref null 0) (ref 1) (ref func) anyref (ref null $f))
        (result eqref) ref.null eq)"""
    )
    assert found.function_exports["f"] == FunctionType(
        ("funcref", "externref", "(ref null 0)", "(ref 1)", "(ref func)", "anyref", "(ref null 2)"), ("eqref",)
    )


def test_types_of_continuations_are_passed_over() -> None:
    """They have numbers, too, and no function has one of them."""
    found = read(wasm('(type $f (func)) (type (cont $f)) (type $g (func (param i32))) (func (export "g") (type $g))'))
    assert found.function_exports == {"g": FunctionType(("i32",), ())}


def test_memories_have_their_limits() -> None:
    """What the module imports comes before what is its own; each has a name under which it can be reached."""
    found = facts('(import "env" "memory" (memory 2 5)) (memory (export "own") 3) (memory i64 1 70000)')
    assert [(each.minimum_pages, each.maximum_pages, each.is_64, each.export) for each in found.memories] == [
        (2, 5, False, "weighbridge:memory:0"),
        (3, None, False, "own"),
        (1, 70000, True, "weighbridge:memory:2"),
    ]
    assert {each.page_bytes for each in found.memories} == {65_536}


def test_the_size_of_pages_is_told() -> None:
    """A proposal lets a module ask for pages of one byte."""
    assert [each.page_bytes for each in read(wasm("(memory 9 (pagesize 1))")).memories] == [1]


def test_tables_have_their_limits() -> None:
    """Also one that has a value for its elements."""
    found = facts(
        """(import "env" "table" (table 4 9 funcref)) (table (export "t") 5 externref) (table 6 (ref func) (ref.func 0))
        (func)"""
    )
    assert [(each.minimum, each.maximum, each.type, each.export) for each in found.tables] == [
        (4, 9, "funcref", "weighbridge:table:0"),
        (5, None, "externref", "t"),
        (6, None, "(ref func)", "weighbridge:table:2"),
    ]


def test_globals_that_change_can_be_reached() -> None:
    """Those that do not have a name only if the module gives them one."""
    found = facts(
        """(global (mut i32) (i32.const 1)) (global i64 (i64.const 2)) (global (export "c") f32 (f32.const 3))
        (global (export "v") (mut f64) (f64.const 4))"""
    )
    assert [(each.type, each.is_mutable, each.export) for each in found.globals] == [
        ("i32", True, "weighbridge:global:0"),
        ("i64", False, None),
        ("f32", False, "c"),
        ("f64", True, "v"),
    ]


def test_the_first_of_several_names_is_taken() -> None:
    """A module may give one thing under many names."""
    found = facts('(global (mut i32) (i32.const 1)) (export "b" (global 0)) (export "a" (global 0))')
    assert [each.export for each in found.globals] == ["b"]


def test_a_name_that_is_taken_for_something_else_is_not_used() -> None:
    """A module that gives our names to others of its parts does not mislead anybody."""
    found = facts(
        """(global (mut i32) (i32.const 1)) (global (mut i32) (i32.const 2)) (func)
        (export "weighbridge:global:0" (func 0)) (export "weighbridge:global:1" (global 0))"""
    )
    assert [each.export for each in found.globals] == ["weighbridge:global:1", "weighbridge:global:1'"]


def test_globals_that_are_wanted_are_told() -> None:
    """Who links the module has to provide them, or refuse it."""
    found = facts('(import "env" "base" (global i32)) (import "env" "sp" (global (mut i64)))')
    assert found.global_imports == (
        GlobalImport("env", "base", "i32", False),
        GlobalImport("env", "sp", "i64", True),
    )
    assert [each.export for each in found.globals] == [None, "weighbridge:global:1"]
    assert found.obstacles == ("global 1 is mutable and belongs to others",)


def test_what_cannot_be_the_modules_own_is_told() -> None:
    """A table whose elements are never null would have to be filled; an exception has to be the host's."""
    found = facts(
        """(type $f (func)) (import "env" "full" (table 1 (ref func))) (import "env" "empty" (table 1 funcref))
        (import "env" "oops" (tag (param i32)))"""
    )
    assert found.other_imports == (
        OtherImport("env", "full", "table"),
        OtherImport("env", "empty", "table"),
        OtherImport("env", "oops", "tag"),
    )
    assert facts('(import "env" "empty" (table 1 funcref)) (import "env" "m" (memory 1))').other_imports == ()


@pytest.mark.parametrize(
    ("expression", "offset"),
    [
        ("i32.const 38", 38),
        ("i32.const -1", (1 << 32) - 1),
        ("(i32.add (i32.const 7) (i32.mul (i32.const 3) (i32.const 5)))", 22),
        ("(i32.sub (i32.const 7) (i32.const 9))", (1 << 32) - 2),
        ("global.get $constant", 123),
        ("(i32.add (global.get $constant) (i32.const 4))", 127),
        ("global.get $wanted", None),
        ("(i32.add (global.get $wanted) (i32.const 4))", None),
    ],
)
def test_offsets_are_worked_out_where_they_are_constant(expression: str, offset: int | None) -> None:
    """Also sums, and constants of the module; one that comes from outside is not known."""
    found = facts(
        f"""(import "env" "base" (global $wanted i32)) (global $constant i32 (i32.const 123)) (memory 1)
        (data (offset {expression}) "abc")"""
    )
    assert [(each.memory, each.offset, bytes(each.content)) for each in found.segments] == [(0, offset, b"abc")]
    assert found.describes_memory == (offset is not None)


def test_segments_of_every_form_are_told() -> None:
    """Active ones of any memory, those of 64 bits, and passive ones."""
    found = facts(
        r"""(memory 1) (memory 1) (memory i64 1) (data "passive") (data (memory 1) (i32.const 5) "one")
        (data (memory 2) (i64.const 6) "\00\ff") (data (i32.const 0) "")"""
    )
    assert [(each.memory, each.offset, bytes(each.content), each.is_passive) for each in found.segments] == [
        (0, None, b"passive", True),
        (1, 5, b"one", False),
        (2, 6, b"\0\xff", False),
        (0, 0, b"", False),
    ]
    assert found.describes_memory


def test_segments_are_views_of_the_module() -> None:
    """A module of many megabytes of data is not in memory twice."""
    binary = wasm('(memory 1) (data (i32.const 5) "abc")')
    (segment,) = read(binary).segments
    assert segment.content.obj is binary


def test_a_start_function_may_write_anything() -> None:
    """Then segments do not describe the memory, which is no obstacle to a reset: a first instance does."""
    found = facts("(memory 1) (func) (start 0)")
    assert found.has_start
    assert not found.describes_memory
    assert found.obstacles == ()


@pytest.mark.parametrize(
    "segment",
    [
        "(elem (i32.const 0) 0 0)",
        "(elem func 0)",
        "(elem (table 1) (i32.const 1) func 0)",
        "(elem declare func 0)",
        "(elem (i32.const 1) funcref (ref.func 0) (ref.null func))",
        "(elem funcref (ref.func 0))",
        "(elem (table 1) (i32.const 1) (ref null func) (ref.null func))",
        "(elem declare funcref (ref.func 0))",
    ],
)
def test_element_segments_of_every_form_are_read(segment: str) -> None:
    """What comes behind them is found."""
    found = facts(f'(table 5 funcref) (table 5 funcref) (memory 1) (func) {segment} (data (i32.const 9) "behind")')
    assert [each.offset for each in found.segments] == [9]


def test_constants_of_every_type_are_read() -> None:
    """What comes behind them is found."""
    found = facts(
        """(type $s (struct (field i32))) (type $a (array i8)) (global f32 (f32.const 1)) (global f64 (f64.const 2))
        (global v128 (v128.const i64x2 11 11)) (global funcref (ref.func 0)) (global externref (ref.null extern))
        (global (ref $s) (struct.new $s (i32.const 3))) (global (ref $s) (struct.new_default $s))
        (global (ref $a) (array.new $a (i32.const 1) (i32.const 2)))
        (global (ref $a) (array.new_default $a (i32.const 2)))
        (global (ref $a) (array.new_fixed $a 2 (i32.const 1) (i32.const 2))) (global i31ref (ref.i31 (i32.const 1)))
        (global externref (extern.convert_any (ref.i31 (i32.const 1))))
        (global i64 (i64.sub (i64.add (i64.const 1) (i64.const 2)) (i64.mul (i64.const 3) (i64.const -4))))
        (memory i64 1) (func) (data (offset (i64.add (global.get 12) (i64.const 11))) "x")"""
    )
    assert found.globals[2].type == "v128"
    assert [each.offset for each in found.segments] == [26]


TABLES = "(table 5 funcref) (func $f) (elem declare func $f)"
PASSIVE = '(elem $e func $f) (memory 1) (data $d "abc")'


@pytest.mark.parametrize(
    ("text", "obstacle"),
    [
        (f"{TABLES} (func (table.set (i32.const 0) (ref.func $f)))", "function 1 uses table.set"),
        (
            f"{TABLES} (func (result i32) (table.grow (ref.null func) (i32.const 1)))",
            "function 1 uses table.grow",
        ),
        (
            f"{TABLES} (func (table.fill (i32.const 0) (ref.null func) (i32.const 1)))",
            "function 1 uses table.fill",
        ),
        (
            f"{TABLES} (func (table.copy (i32.const 0) (i32.const 1) (i32.const 1)))",
            "function 1 uses table.copy",
        ),
        (
            f"{TABLES} {PASSIVE} (func (table.init $e (i32.const 0) (i32.const 0) (i32.const 1)))",
            "function 1 uses table.init",
        ),
        (f"{TABLES} {PASSIVE} (func (elem.drop $e))", "function 1 uses elem.drop"),
        (f"{TABLES} {PASSIVE} (func (data.drop $d))", "function 1 uses data.drop"),
        ("(memory 1 2 shared)", "memory 0 is shared, so that others may write to it at any time"),
        (
            '(import "env" "memory" (memory 1 2 shared))',
            "memory 0 is shared, so that others may write to it at any time",
        ),
        (
            "(global i32 (i32.const 0)) (global (mut externref) (ref.null extern))",
            "global 1 is mutable and holds no number of up to 64 bits but externref",
        ),
        (
            "(global (mut v128) (v128.const i64x2 0 0))",
            "global 0 is mutable and holds no number of up to 64 bits but v128",
        ),
        (
            "(type $s (struct (field (mut i32)))) (global $g (ref $s) (struct.new $s (i32.const 0)))"
            "(func (struct.set $s 0 (global.get $g) (i32.const 1)))",
            "function 0 uses struct.set",
        ),
        (
            "(type $a (array (mut i8))) (global $g (ref $a) (array.new_default $a (i32.const 3)))"
            "(func (array.set $a (global.get $g) (i32.const 1) (i32.const 1)))",
            "function 0 uses array.set",
        ),
    ],
)
def test_state_that_a_reset_does_not_reach_is_an_obstacle(text: str, obstacle: str) -> None:
    """In plain words, with the number of what it is about."""
    assert facts(text).obstacles == (obstacle,)


@pytest.mark.parametrize(
    "text",
    [
        # what is copied into the memory is reset with it, and the segment stays
        f"{TABLES} {PASSIVE} (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3)))",
        # segments that are not passive are dropped before any call: to drop them again does nothing
        '(memory 1) (data $d (i32.const 0) "abc") (func (data.drop $d))',
        "(table 1 funcref) (elem $e (i32.const 0) func 0) (func (elem.drop $e))",
        f"{TABLES} (func (result funcref) (table.get (i32.const 0))) (func (result i32) table.size)",
        "(memory 1) (func (result i32) (memory.grow (i32.const 1)))",
        # numbers that look like instructions
        f"{TABLES} (func (result i32) i32.const 0x26 i32.const 0 i32.add i32.const 0x7ffc i32.add)",
        "(global $g (mut i32) (i32.const 0)) (func (global.set $g (i32.const 38)))",
        "(type $s (struct (field i32))) (global $g (ref $s) (struct.new_default $s))"
        "(func (result i32) (struct.get $s 0 (global.get $g)))",
    ],
)
def test_what_a_reset_reaches_is_no_obstacle(text: str) -> None:
    """A module gets fresh instances only if there is a reason."""
    assert facts(text).obstacles == ()


def test_each_instruction_is_told_once() -> None:
    """With the first function that uses it, counted as the code does: imported ones come first."""
    found = facts(
        f"""(import "env" "f" (func)) {TABLES} (func (table.set (i32.const 0) (ref.func $f)))
        (func (table.set (i32.const 0) (ref.func $f)) (table.copy (i32.const 0) (i32.const 1) (i32.const 1)))"""
    )
    assert found.obstacles == ("function 2 uses table.set", "function 3 uses table.copy")


def test_code_that_is_not_understood_is_an_obstacle() -> None:
    """Whoever knows an instruction that is not known here may run it, in fresh instances."""
    binary = wasm("(table 5 funcref) (func unreachable nop table.set 0)")
    assert read(binary).obstacles == ("function 0 uses table.set",)
    unknown = binary.replace(b"\0\x01\x26\0\x0b", b"\0\xe5\x26\0\x0b")
    position = unknown.index(b"\xe5")
    assert read(unknown).obstacles == (
        f"function 0 cannot be examined: byte {position} of the module is not understood",
    )


def test_the_section_that_is_for_us_is_read() -> None:
    """Others are none of our business, even two of one name."""
    binary = with_custom(wasm("(func)"), b"a", b"b", name=b"other")
    assert read(with_custom(binary, b"max_pages = 3")).custom == {"weighbridge": b"max_pages = 3"}
    assert read(binary).custom == {}


@pytest.mark.parametrize(
    ("binary", "offset", "wanted", "had"),
    [
        (b"", 0, "a module", "the end"),
        (b"(module)", 0, "a module", "28 6d 6f"),
        (b"\0asm\x0d\0\x01\0", 4, "a core module", "a component"),
        (wasm("") + b"\x0e\0", 8, "a section that is known", "number 14"),
        (wasm("") + b"\x0a\x01\0\x0a\x01\0", 11, "each section once, in order", "section 10"),
        (wasm("") + b"\x0a\x01\0\x01\x01\0", 11, "each section once, in order", "section 1"),
        (wasm("") + b"\x01\x05\0", 10, "section 1 of 5 bytes", "1 bytes"),
        (wasm("") + b"\x01\x02\0\0", 11, "the end of the types", "1 bytes more"),
        (wasm("") + b"\x01\x03\x01\x60\x05", 13, "a type of values", "the end"),
        (wasm("") + b"\x01\x02\x01\x55", 11, "a type of functions", "bytes 55"),
        (wasm("") + b"\x03\x02\x01\x00", 12, "a type of functions", "0"),
        (wasm("") + b"\x05\x03\x01\x10\x01", 11, "limits", "bytes 10"),
        (wasm("") + b"\x05\x04\x01\x08\x01\x11", 13, "pages of at most 65536 bytes", "bytes 11"),
        (wasm("") + b"\x06\x04\x01\x7f\x02\x0b", 12, "mutable", "bytes 02"),
        (wasm("") + b"\x06\x04\x01\x7f\x00\x01", 13, "a constant expression", "bytes 01"),
        (wasm("") + b"\x06\x05\x01\x7f\x00\x6a\x0b", 13, "two values", "bytes 6a"),
        (wasm("") + b"\x06\x06\x01\x7f\x00\x23\x00\x0b", 14, "one of 0 globals", "0"),
        (wasm("") + b"\x08\x01\x00", 10, "one of 0 functions", "0"),
        (wasm("(func)") + b"\0\x02\x05a", 27, "the name of a section", "1 bytes"),
        (with_custom(wasm(""), b"", name=b"\xff"), 11, "in UTF-8", "bytes ff"),
        (with_custom(wasm(""), b"a", b"b"), 25, "one section 'weighbridge'", "a second one"),
        (wasm('(memory 1) (export "a" (memory 0))').replace(b"a\x02\0", b"a\x02\1"), 20, "a memory", "number 1"),
        (wasm('(memory 1) (export "a" (memory 0))').replace(b"a\x02\0", b"a\x05\0"), 18, "a kind below 5", "05"),
        (wasm("(func)")[:14] + b"\x03\x02\x01\0", 18, "the code of 1 functions", "that of 0"),
        (wasm('(memory 1) (data (i32.const 0) "")').replace(b"\x0b\x06\x01\0", b"\x0b\x06\x01\x03"), 16, "forms", "3"),
    ],
)
def test_damage_is_told_with_its_place(binary: bytes, offset: int, wanted: str, had: str) -> None:
    """The offset, what should have been there and what was."""
    with pytest.raises(InvalidModule) as refused:
        read(binary)
    error = refused.value
    assert error.message == f"the module is damaged at byte {offset}"
    assert wanted in str(error.wanted)
    assert had in str(error.had)


def test_a_name_is_exported_once() -> None:
    """Which of two would be meant is not known."""
    binary = wasm('(memory 1) (export "a" (memory 0)) (export "b" (memory 0))').replace(b"\1b\2", b"\1a\2")
    with pytest.raises(InvalidModule, match=r"byte 20.*a name that is not exported yet.*'a'"):
        read(binary)


def test_facts_can_be_compared() -> None:
    """Two modules of the same bytes have the same facts."""
    binary = wasm('(memory 1) (data (i32.const 5) "abc")')
    assert read(binary) == read(bytes(bytearray(binary)))
