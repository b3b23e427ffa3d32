"""The table of instructions, beside an engine that has its own.

There are forty things of each kind in the modules of these tests, and each instruction names the last of them. The
number of the last is no instruction, so that an engine that takes the code has read the instruction as the table says:
with fewer numbers behind it, the number that is left over would be refused; with more, they would swallow the code of
the branch behind it, whose number would be left over.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import wasmtime

from weighbridge_wasm.binary.instructions import NotUnderstood, changes
from weighbridge_wasm.binary.leb import encode_unsigned
from weighbridge_wasm.binary.opcodes import CHANGES, ORDINARY, PREFIXED
from weighbridge_wasm.binary.sections import CODE, DATA_COUNT, join, split

COUNT = 40
LAST = bytes([COUNT - 1])
ALL = bytes([COUNT])
SENTINEL = b"\x0c" + LAST + b"\x26" + LAST
FEATURES = ("gc", "function_references", "exceptions", "threads", "tail_call", "multi_memory", "relaxed_simd")

LAST_TYPES = {
    "function": "(func)",
    "structure": f"(struct {'(field (mut i32))' * COUNT})",
    "packed structure": f"(struct {'(field (mut i8))' * COUNT})",
    "array": "(array (mut i32))",
    "packed array": "(array (mut i8))",
    "array of references": "(array (mut funcref))",
}
OPENING = {(0x02,), (0x03,), (0x04,), (0x1F,)}
"""Instructions that want an end."""

NOT_RUN = {(code,) for code in (0x06, 0x07, 0x09, 0x18, 0x19)}
"""The older exceptions, which this engine has left."""

TESTED_AS_TEXT = {(0x05,), (0x0B,), (0x1C,), (0x1F,), (0xD6,), (0xFB, 24), (0xFB, 25)}
"""What wants something special around it or behind it; see the tests of the walk."""

KNOWN = [(code,) for code in ORDINARY] + [(prefix, number) for prefix in PREFIXED for number in PREFIXED[prefix]]


def written(codes: tuple[int, ...]) -> bytes:
    return bytes(codes[:1]) + b"".join(encode_unsigned(number) for number in codes[1:])


def parts_of(codes: tuple[int, ...]) -> str:
    return ORDINARY[codes[0]] if len(codes) == 1 else PREFIXED[codes[0]][codes[1]]


@pytest.fixture(scope="module", name="engine")
def make_engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    for feature in (*FEATURES, "wide_arithmetic"):
        setattr(config, f"wasm_{feature}", True)
    return wasmtime.Engine(config)


@pytest.fixture(scope="module", name="modules")
def make_modules() -> list[bytes]:
    """Forty of everything, and a function to be filled; they differ by what their last type is."""
    return [
        bytes(
            wasmtime.wat2wasm(
                f"""(module {"(type (func))" * (COUNT - 1)} (type {last}) {"(tag)" * COUNT} {"(memory 1)" * COUNT}
                {"(table 1 funcref)" * COUNT} {"(global (mut i32) (i32.const 0))" * COUNT} {"(elem func 0)" * COUNT}
                (elem declare func {COUNT - 1}) {'(data "")' * COUNT} {"(func (type 0))" * (COUNT + 1)})"""
            )
        )
        for last in LAST_TYPES.values()
    ]


def with_code(module: bytes, code: bytes) -> tuple[bytes, int, int]:
    """The module with code in its last function, and where that begins and ends."""
    locals_ = b"\x01" + ALL + b"\x7f"
    body = locals_ + b"\x02\x40" * COUNT + b"\x00" + code + b"\x00" + b"\x0b" * COUNT + b"\x0b"
    content = encode_unsigned(COUNT + 1) + b"\x02\x00\x0b" * COUNT + encode_unsigned(len(body)) + body
    wasm = join(module, split(module), {DATA_COUNT: ALL, CODE: content})
    start = wasm.index(body)
    return wasm, start, start + len(body)


def fillings(part: str) -> list[bytes]:
    """What may stand for a part of an instruction; the engine has to take one of them."""
    if part == "m":  # each alignment, without and with the number of a memory
        return [bytes([flags]) + LAST for flags in range(5)]
    fixed = {"w": [LAST], "h": [LAST], "b": [LAST], "1": [b"\0"], "4": [LAST * 4], "8": [LAST * 8]}
    return {"x": [LAST * 16, b"\x1f" * 16], "l": [LAST + LAST * COUNT], **fixed}[part]


def candidates(codes: tuple[int, ...], parts: str, *, with_memory: bool = False) -> Iterator[bytes]:
    behind = b"\x00\x0b" if codes in OPENING else b""
    for filling in product(*map(fillings, parts)):
        content = b"".join(filling)
        if with_memory:
            content = bytes([content[0] | 0x40]) + LAST + content[1:]
        yield written(codes) + content + behind + SENTINEL


def accepted(engine: wasmtime.Engine, modules: list[bytes], code: bytes) -> tuple[bytes, int, int] | None:
    for module in modules:
        filled = with_code(module, code)
        try:
            wasmtime.Module.validate(engine, filled[0])
        except wasmtime.WasmtimeError:
            continue
        return filled
    return None


def check(engine: wasmtime.Engine, modules: list[bytes], codes: tuple[int, ...], code: Iterator[bytes]) -> None:
    taken = [filled for each in code if (filled := accepted(engine, modules, each))]
    assert taken
    own = {name for name, known in CHANGES.items() if known == codes}
    assert all(changes(*filled) == {"table.set"} | own for filled in taken)


@pytest.mark.parametrize("codes", [each for each in KNOWN if each not in NOT_RUN | TESTED_AS_TEXT], ids=str)
def test_the_engine_reads_an_instruction_as_the_table_says(
    engine: wasmtime.Engine, modules: list[bytes], codes: tuple[int, ...]
) -> None:
    """And the walk over the same code finds what stands behind it."""
    parts = parts_of(codes)
    check(engine, modules, codes, candidates(codes, parts))
    if "m" in parts:
        check(engine, modules, codes, candidates(codes, parts, with_memory=True))
    if "1" in parts:  # which could be taken for an instruction: without it, the code has to be refused
        shorter = candidates(codes, parts.replace("1", ""))
        assert not any(accepted(engine, modules, each) for each in shorter)


CODES = [(code,) for code in range(256) if code not in PREFIXED] + list(product(PREFIXED, range(300)))


def test_no_other_instruction_is_run(engine: wasmtime.Engine, modules: list[bytes]) -> None:
    """What the table does not have, this engine does not know, or does not run: nothing goes by unseen."""
    unknown = [codes for codes in CODES if codes not in KNOWN]
    assert len(unknown) > 500
    (module, *_) = modules
    for codes in unknown:
        filled = with_code(module, written(codes) + b"\x00" * 4)
        with pytest.raises(NotUnderstood):
            changes(*filled)
        with pytest.raises(wasmtime.WasmtimeError, match=r"(?i)opcode|0x|support|enabled"):
            wasmtime.Module.validate(engine, filled[0])
