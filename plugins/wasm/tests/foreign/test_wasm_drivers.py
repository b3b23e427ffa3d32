"""Modules from npm give what they should, straight on wasmtime-py: what else is tested with them rests on that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from . import drivers
from .drivers import lz4, xxhash
from .drivers.driver import Driver
from .wanted import wasm

New: TypeAlias = Callable[[], tuple[Driver, "Plain"]]

pytestmark = pytest.mark.checkout


class Plain:
    """A guest with nothing of ours in it."""

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module, driver: Driver) -> None:
        self._store = wasmtime.Store(engine)
        imports = [self._imported(driver, found) for found in module.imports]
        exports = wasmtime.Instance(self._store, module, imports).exports(self._store)
        self._exports = dict(exports.items())
        # One of the modules imports its memory, and all others export one.
        (self._memory,) = [it for it in [*imports, *self._exports.values()] if isinstance(it, wasmtime.Memory)]

    def call(self, function: str, args: Sequence[int | float], /) -> Any:
        exported = self._exports[function]
        assert isinstance(exported, wasmtime.Func)
        return exported(self._store, *args)

    def read(self, address: int, nbytes: int, /) -> bytes:
        return bytes(self._memory.read(self._store, address, address + nbytes))

    def write(self, address: int, data: bytes, /) -> None:
        self._memory.write(self._store, data, address)

    def _imported(self, driver: Driver, found: Any) -> Any:
        if isinstance(found.type, wasmtime.MemoryType):
            return wasmtime.Memory(self._store, found.type)
        return wasmtime.Func(self._store, found.type, driver.functions[f"{found.module}.{found.name}"])


@pytest.fixture(scope="module", params=drivers.ALL, ids=lambda driver: type(driver).__name__)
def new(request: pytest.FixtureRequest) -> New:
    """Makes guests of a module that was compiled once, and its driver."""
    driver: Driver = request.param
    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, wasm(request.config, driver.module))
    return lambda: (driver, Plain(engine, module, driver))


def test_module_from_npm_agrees_with_python(new: New) -> None:
    """What each module makes of random inputs is what Python makes of them, and a changed result is told apart."""
    random = Random(5)
    for _ in range(3):
        driver, guest = new()
        data = driver.input(random)
        output = driver.run(guest, data)
        assert driver.is_right(data, output)
        assert not driver.is_right(data, output[:-1] + bytes([output[-1] ^ 1]))


def test_same_input_in_another_instance_gives_the_same(new: New) -> None:
    """A driver adds nothing of its own: no time, no chance."""
    (driver, first), (_, second) = new(), new()
    data = driver.input(Random(6))
    assert driver.run(first, data) == driver.run(second, data)


@pytest.mark.parametrize(
    ("content", "short", "long"),
    [(b"", 0x02CC5D05, 0xEF46DB3751D8E999), (b"abc", 0x32D153FF, 0x44BC2CF5AD770999)],
)
def test_hashes_are_those_of_the_specification(content: bytes, short: int, long: int) -> None:
    """The two hashes in Python are right where the results are published."""
    assert xxhash.xxh32(content) == short
    assert xxhash.xxh64(content) == long


@given(st.binary(max_size=300), st.integers(1, 300))
def test_block_of_literals_and_repetitions_is_unpacked(start: bytes, ntimes: int) -> None:
    """A block of LZ4 is literals, then a piece of what was there, which may reach into itself."""
    content = start or b"x"
    more = len(content) * ntimes + 4

    def token(length: int) -> tuple[int, bytes]:
        rest = length - 15
        return (length, b"") if rest < 0 else (15, b"\xff" * (rest // 255) + bytes([rest % 255]))

    (literals, literals_rest), (copied, copied_rest) = token(len(content)), token(more - 4)
    block = bytes([literals << 4 | copied]) + literals_rest + content
    block += len(content).to_bytes(2, "little") + copied_rest + b"\x10" + b"!"
    repeated = (content * (ntimes + 6))[: len(content) + more]
    assert hashlib.sha256(lz4.decompress(block)).digest() == hashlib.sha256(repeated + b"!").digest()
