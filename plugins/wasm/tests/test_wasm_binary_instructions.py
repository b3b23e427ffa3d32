"""The walk over code: no instruction is taken for another, and what is not known is said."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import example, given
from hypothesis import strategies as st

from weighbridge_wasm.binary.instructions import NotUnderstood, changes
from weighbridge_wasm.binary.leb import encode_unsigned
from weighbridge_wasm.binary.opcodes import CHANGES
from weighbridge_wasm.binary.reader import Reader
from weighbridge_wasm.binary.sections import CODE, split
from weighbridge_wasm.binary.sieve import sieve

# 39 is no instruction: a number that is not passed over is seen, and so is one that is passed over too many
ORDINARY = """
unreachable; nop; block end; loop (result i32) end; if (param i32) (result i64 f32) else end; block (result v128) end
block (result (ref null func)) end; block (result (ref 39)) end; loop (result (ref null 39)) end
if (result (ref 39)) end; select (result (ref 39)); try_table (result (ref 39)) (catch 39 39) br 39 end
block (result externref) end; if else br 39 end; throw 39; br 39; br_table 39 39
br 0; br_if 200; br_table 0; br_table 1 2 300 4 39; return; call 0; call 16384; call_indirect (type 0)
call_indirect 1 (type 0); return_call 39; return_call_indirect (type 0); call_ref 0; return_call_ref 0; drop; select
select (result i32); select (result (ref null 0)); select (result f64 externref (ref any)); throw 0; throw_ref
try_table end; try_table (result i32) (catch 0 0) (catch_ref 200 1) (catch_all 2) (catch_all_ref 39) end
local.get 0; local.set 39; local.tee 252; global.get 39; global.set 300; table.get 0; table.get 39
i32.load; i64.load offset=39; f32.load offset=0x26fc; f64.load align=1; i32.load8_s; i64.load32_u
i32.load 1 offset=39; i64.store 39 offset=9; i32.store; i64.store32 offset=0xffffffff
i64.load offset=0xfffffffffffffff
memory.size; memory.grow; memory.size 39; memory.grow 1
i32.const 0; i32.const 39; i32.const -1; i32.const -2147483648; i32.const 2147483647; i32.const 0x26
i64.const 39; i64.const -9223372036854775808; i64.const 0x7fffffffffffffff
f32.const 1.5; f32.const nan:0x260026; f64.const -0.0; f64.const nan:0x26002600fc0ff
i32.eqz; i64.extend_i32_u; f64.reinterpret_i64; i32.extend8_s; i64.extend32_s; f64.copysign; i64.rotr
ref.null func; ref.null extern; ref.null 39; ref.null any; ref.null exn; ref.is_null; ref.func 39; ref.eq
ref.as_non_null; br_on_null 39; br_on_non_null 39
try catch 39 br 39 end; try (result (ref 39)) catch 39 rethrow 39 catch_all br 39 end; try (result (ref 39)) delegate 39
"""

PREFIXED = """
struct.new 0; struct.new_default 39; struct.get 0 39; struct.get_s 1 2; struct.get_u 3 4; array.new 0
array.new_default 39; array.new_fixed 0 39; array.new_data 0 39; array.new_elem 39 0; array.get 0; array.get_s 1
array.get_u 39; array.len; ref.test (ref 39); ref.test (ref null any); ref.cast (ref func); ref.cast (ref null 1)
br_on_cast 0 (ref null any) (ref 39); br_on_cast_fail 39 (ref any) (ref 39); any.convert_extern; extern.convert_any
ref.i31; i31.get_s; i31.get_u
i32.trunc_sat_f32_s; i64.trunc_sat_f64_u; memory.init 39; memory.init 1 39; memory.copy; memory.copy 39 1; memory.fill
memory.fill 39; table.size 0; table.size 39
i64.add128; i64.sub128; i64.mul_wide_s; i64.mul_wide_u
v128.load; v128.load8x8_s offset=39; v128.load64_splat; v128.store 1 offset=39; v128.const i32x4 0x26 39 252 0x26002600
i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; i8x16.swizzle; f64x2.splat; i8x16.extract_lane_s 3
f64x2.replace_lane 1; i8x16.eq; v128.any_true; v128.load8_lane 3; v128.load8_lane offset=39 12; v128.store64_lane 1
v128.load32_zero; v128.load64_zero offset=39; f32x4.demote_f64x2_zero; f64x2.promote_low_f32x4
i8x16.abs; i16x8.extadd_pairwise_i8x16_s; i32x4.dot_i16x8_s; f64x2.convert_low_i32x4_u; i8x16.relaxed_swizzle
i32x4.relaxed_dot_i8x16_i7x16_add_s
memory.atomic.notify; memory.atomic.wait32 offset=39; memory.atomic.wait64; atomic.fence; i32.atomic.load
i64.atomic.store32 offset=39; i32.atomic.rmw.cmpxchg; i64.atomic.rmw32.cmpxchg_u 1 offset=39
"""

WRITING = {
    "table.set": "table.set 38",
    "data.drop": "data.drop 38",
    "table.init": "table.init 1 38",
    "elem.drop": "elem.drop 38",
    "table.copy": "table.copy 1 38",
    "table.grow": "table.grow 38",
    "table.fill": "table.fill 38",
    "struct.set": "struct.set 0 38",
    "array.set": "array.set 38",
    "array.fill": "array.fill 38",
    "array.copy": "array.copy 0 38",
    "array.init_data": "array.init_data 0 38",
    "array.init_elem": "array.init_elem 38 0",
}


def texts(block: str) -> list[str]:
    return [text.strip() for text in block.replace("\n", ";").split(";") if text.strip()]


def body(code: str, variables: str = "") -> tuple[bytes, int, int]:
    """A module with one function, and where its locals begin and its code ends."""
    wasm = bytes(wasmtime.wat2wasm(f"(module (type (func)) (func (type 0) {variables} {code}))"))
    code_section = next(section for section in split(wasm) if section.number == CODE)
    reader = Reader(wasm, code_section.start + 1, code_section.end)
    nbytes = reader.u32()
    return wasm, reader.position, reader.position + nbytes


@pytest.mark.parametrize("text", texts(ORDINARY) + texts(PREFIXED))
def test_an_instruction_is_passed_over_as_a_whole(text: str) -> None:
    """What follows it is found, and nothing within it is taken for an instruction."""
    assert changes(*body(text)) == set()
    assert changes(*body(f"{text} table.set 39 {text} i32.const 39 {text} data.drop 39")) == {"table.set", "data.drop"}


@pytest.mark.parametrize("name", CHANGES)
def test_an_instruction_that_changes_more_than_memory_is_found(name: str) -> None:
    """Each by its name, with numbers that look like other instructions."""
    wasm, start, end = body(WRITING[name])
    assert changes(wasm, start, end) == {name}
    assert sieve([name], 39).search(wasm, start, end)


@pytest.mark.parametrize(
    "variables", ["", "(local i32 i32 i64)", "(local v128 (ref null 38) externref (ref null any))"]
)
def test_locals_are_passed_over(variables: str) -> None:
    """Code begins behind them, whatever their types."""
    assert changes(*body("table.set 0", variables)) == {"table.set"}


@pytest.mark.parametrize("code", range(0x45, 0xC5))
def test_numeric_instructions_have_nothing_behind_them(code: int) -> None:
    """Those from i32.eqz to i64.extend32_s are one byte each."""
    wasm = bytes([0, code, 0x26, 0, code, 0x0B])
    assert changes(wasm, 0, len(wasm)) == {"table.set"}


@pytest.mark.parametrize("code", [0x16, 0x1D, 0x27, 0xC5, 0xE0, 0xF0, 0xFF])
def test_an_instruction_that_is_not_known_is_not_guessed(code: int) -> None:
    """The walk says where it stopped: what follows might be numbers or instructions."""
    wasm = bytes([0, 0x01, code, 0, 0x0B])
    with pytest.raises(NotUnderstood) as stopped:
        changes(wasm, 0, len(wasm))
    assert stopped.value.position == 2


@pytest.mark.parametrize(
    "code", [(0xFB, 31), (0xFC, 18), (0xFC, 23), (0xFD, 276), (0xFE, 4), (0xFE, 79), (0xFC, (1 << 32) - 1)]
)
def test_a_number_behind_a_prefix_that_is_not_known_is_not_guessed(code: tuple[int, int]) -> None:
    """The same for the instructions that have a prefix."""
    wasm = b"\0\x01" + bytes(code[:1]) + encode_unsigned(code[1]) + b"\x0b"
    with pytest.raises(NotUnderstood) as stopped:
        changes(wasm, 0, len(wasm))
    assert stopped.value.position == 2


@pytest.mark.parametrize(
    "code",
    [
        b"\x02\x65\x70\x0b",  # a block whose type is shared
        b"\xd0\x62\x00\x1a",  # null of an exact type
        b"\x1f\x40\x01\x04\x00\x00\x0b",  # a clause of try_table of an unknown kind
        b"\x1c\x01\x40",  # select with a type that is none
        b"\x41\x80",  # a number whose last byte looks like the end
        b"\xfc\x8c\x80\x80\x80\x80\x00",  # a number behind a prefix that is too long
        b"\x0e\xff\xff\xff\xff\x0f",  # more labels than there are bytes
    ],
)
def test_what_follows_an_instruction_is_not_guessed_either(code: bytes) -> None:
    """Types of proposals that are not known here would put everything behind them out of step."""
    wasm = b"\0" + code + b"\x0b"
    with pytest.raises(NotUnderstood):
        changes(wasm, 0, len(wasm))


def test_a_body_has_to_end_with_its_last_instruction() -> None:
    """Otherwise the walk was out of step, or the module is damaged."""
    wasm = b"\0\x41\x26\x0b"
    assert changes(wasm, 0, 4) == set()
    for end in (2, 3):
        with pytest.raises(NotUnderstood):
            changes(wasm, 0, end)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("filling", range(5))
def test_codes_that_are_longer_than_they_need_to_be_are_found(name: str, filling: int) -> None:
    """A number may be written with zeros at its upper end, and hides nothing by that."""
    code, *numbers = CHANGES[name]
    long = [
        bytes([number | 0x80]) + b"\x80" * (filling - 1) + b"\0" if filling else bytes([number]) for number in numbers
    ]
    index = b"\x85" + b"\x80" * (filling - 1) + b"\0" if filling else b"\x05"
    wasm = b"\0" + bytes([code]) + b"".join(long) + index * 2 + b"\x0b"
    assert sieve([name], 6).search(wasm)
    assert sieve(CHANGES, 200).search(wasm)


TRICKY = st.sampled_from(
    [
        bytes([byte])
        for byte in (0x00, 0x01, 0x0B, 0x26, 0x41, 0x80, 0x8C, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF, 0x0E, 0x28, 0x05)
    ]
)
CODE_BYTES = st.lists(TRICKY | st.binary(min_size=1, max_size=3), max_size=30).map(b"".join)


@given(code=CODE_BYTES, tables=st.sampled_from([1, 2, 13, 127, 128, 300]))
@example(code=b"\x26\x26\x00", tables=300)
def test_the_sieve_misses_nothing_that_the_walk_finds(code: bytes, tables: int) -> None:
    """A body that it lets pass has no such instruction for any table that exists."""
    wasm = b"\0" + code + b"\x0b"
    try:
        found = changes(wasm, 0, len(wasm))
    except NotUnderstood:
        return
    found -= {"table.set"} if tables < 128 else set()  # of which random bytes have numbers of tables that are not there
    for name in found:
        assert sieve([name], tables).search(wasm)


@given(tables=st.integers(1, 300), data=st.data())
def test_the_sieve_finds_table_set_for_each_table(tables: int, data: st.DataObject) -> None:
    """Whatever stands before it, the number of a table that exists is recognised."""
    index = data.draw(st.integers(0, tables - 1))
    before = data.draw(CODE_BYTES)
    assert sieve(["table.set"], tables).search(before + b"\x26" + encode_unsigned(index))


@given(code=st.binary(max_size=60))
def test_damaged_code_is_walked_or_not_understood(code: bytes) -> None:
    """Bytes at random have no other end."""
    found, stopped = set(CHANGES), len(code)
    try:
        found = changes(code, 0, len(code))
    except NotUnderstood as error:
        stopped = error.position
    assert found <= set(CHANGES)
    assert 0 <= stopped <= len(code)
