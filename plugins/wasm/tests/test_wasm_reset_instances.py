"""Memories of real instances: mapped from an image by the engine, or filled by copying."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator

import attrs
import pytest
import wasmtime

from weighbridge_wasm.reset import Baseline, Resetter, open_resetter

PAGE_OF_WASM = 1 << 16
WAYS = ("pagemap", "madvise", "copy")


@attrs.frozen
class Data:
    offset: int
    content: bytes


class Guest:
    """An instance and the address of its memory."""

    def __init__(self, engine: wasmtime.Engine, text: str) -> None:
        self.store = wasmtime.Store(engine)
        self.instance = wasmtime.Instance(self.store, wasmtime.Module(engine, bytes(wasmtime.wat2wasm(text))), [])
        self.memory = self.instance.exports(self.store)["m"]
        assert isinstance(self.memory, wasmtime.Memory)
        self.nbytes = self.memory.data_len(self.store)
        self.address = ctypes.cast(self.memory.data_ptr(self.store), ctypes.c_void_p).value or 0

    def content(self) -> bytes:
        return ctypes.string_at(self.address, self.nbytes)


@pytest.fixture(params=[True, False], ids=["image", "copied"])
def engine(request: pytest.FixtureRequest) -> wasmtime.Engine:
    """An engine that maps the data of a module from an image, and one that copies it."""
    config = wasmtime.Config()
    config.memory_init_cow = request.param
    return wasmtime.Engine(config)


@pytest.fixture(params=WAYS)
def resetter(request: pytest.FixtureRequest) -> Iterator[Resetter]:
    """Each strategy, the better ones switched off."""
    with open_resetter(WAYS[: WAYS.index(request.param)], keep_bytes=3 * PAGE_OF_WASM) as opened:
        if opened.strategy != request.param:
            pytest.skip(opened.evidence)
        yield opened


TEXT = """(module (memory (export "m") 16)
  (data (i32.const 1000) "first") (data (i32.const 70000) "second") (data (i32.const 70003) "over"))"""
SEGMENTS = [Data(1000, b"first"), Data(70_000, b"second"), Data(70_003, b"over")]


def spoil(guest: Guest, seed: int) -> None:
    """Write at random places, a little or a lot."""
    chance = random.Random(seed)
    for _ in range(chance.randrange(1, 20)):
        nbytes = min(chance.choice([1, 8, 5_000, 300_000]), guest.nbytes)
        place = chance.randrange(guest.nbytes - nbytes + 1)
        ctypes.memmove(guest.address + place, chance.randbytes(nbytes), nbytes)


@pytest.mark.parametrize("captured", [False, True], ids=["from segments", "captured"])
def test_reset_instance_is_as_a_fresh_one(engine: wasmtime.Engine, resetter: Resetter, captured: bool) -> None:
    """After twenty rounds of random writes the memory is, each time, that of an instance which nobody used."""
    wanted, guest = Guest(engine, TEXT).content(), Guest(engine, TEXT)
    if captured:
        baseline = resetter.capture(guest.address, guest.nbytes, SEGMENTS)
    else:
        baseline = Baseline.of(SEGMENTS, guest.nbytes)
    for seed in range(20):
        spoil(guest, seed)
        assert guest.content() != wanted
        resetter.reset(guest.address, guest.nbytes, baseline)
        assert guest.content() == wanted


STARTED = """(module (memory (export "m") 4) (global $at i32 (i32.const 5000))
  (data (i32.const 8192) "cleared by the start function") (data (i32.const 100) "kept")
  (data $later "copied later")
  (func $start
    (memory.fill (i32.const 8192) (i32.const 0) (i32.const 4096))
    (memory.init $later (i32.const 200000) (i32.const 0) (i32.const 12)))
  (start $start))"""


def test_work_of_a_start_function_comes_back(engine: wasmtime.Engine, resetter: Resetter) -> None:
    """A baseline captured from the first instance serves a second one, whose start wrote the same."""
    first, guest = Guest(engine, STARTED), Guest(engine, STARTED)
    wanted = Guest(engine, STARTED).content()
    segments = [Data(8192, b"cleared by the start function"), Data(100, b"kept")]
    baseline = resetter.capture(first.address, first.nbytes, segments)
    for seed in range(10):
        spoil(guest, seed)
        resetter.reset(guest.address, guest.nbytes, baseline)
        assert guest.content() == wanted


def test_capture_reads_little_of_a_large_memory() -> None:
    """The baseline of a memory of 1 GiB holds the pages that have something, and no others were read for it."""
    guest = Guest(wasmtime.Engine(), '(module (memory (export "m") 16384) (data (i32.const 77) "x"))')
    with open_resetter() as resetter:
        if resetter.strategy != "pagemap":
            pytest.skip("without the map of pages the whole memory is read")
        baseline = resetter.capture(guest.address, guest.nbytes, [Data(77, b"x")])
        assert baseline.kept_bytes < PAGE_OF_WASM
        runs = resetter.dirty_runs(guest.address, guest.nbytes)
        assert runs is not None
        assert sum(stop - start for start, stop in runs) < PAGE_OF_WASM
