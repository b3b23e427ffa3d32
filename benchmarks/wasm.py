"""What isolation costs in the WebAssembly plugin, beside plain wasmtime-py and Extism.

    python benchmarks/wasm.py [--only reset,...] [--rounds 9] [--json]

reset: a call wrote to 64 KiB of an instance's memory; what it costs to make the memory pristine again, for memories of
16 to 65,535 pages, by each strategy. "low" was written at 128 KiB of the memory, "high" at its end. "call" is the call
and the reset, since memory that was given back is paid for by the next call; beside it a fresh instance of the public
API with the same call. A strategy that is not worth it for that size has no figure.

Rounds alternate in one process; the figures are medians.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import wasmtime

from weighbridge_wasm.reset import Baseline, Resetter, open_resetter

KIB = 1024
PAGE = 64 * KIB
DIRTIED = 64 * KIB
DATA = bytes(range(1, 251)) * 41  # some 10 KiB
PAGES = (16, 256, 4096, 65_535)
STRATEGIES = ("pagemap", "madvise", "copy")


def guest(pages: int) -> bytes:
    """A module that writes to 64 KiB, adds, and loops."""
    content = "".join(f"\\{byte:02x}" for byte in DATA)
    return bytes(
        wasmtime.wat2wasm(
            f"""(module
              (memory (export "memory") {pages})
              (global $stack (mut i32) (i32.const 65536))
              (data (i32.const 1024) "{content}")
              (func (export "dirty_at") (param i32)
                (global.set $stack (i32.sub (global.get $stack) (i32.const 16)))
                (memory.fill (local.get 0) (i32.const 7) (i32.const {DIRTIED})))
              (func (export "dirty") (result i32)
                (global.set $stack (i32.sub (global.get $stack) (i32.const 16)))
                (memory.fill (i32.const {2 * PAGE}) (i32.const 7) (i32.const {DIRTIED})) (i32.const 0))
              (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
              (func (export "endless") (loop $again (br $again)))
              (func (export "work") (param $times i32) (result i32) (local $x i32)
                (local.set $x (i32.const 2463534242))
                (loop $again
                  (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
                  (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
                  (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
                  (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
                (local.get $x)))"""
        )
    )


# ----------------------------------------------------------------------------------------------------------- reset


class PlainInstance:
    """An instance of the public API, which stays dirty, and the address of its memory."""

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module) -> None:
        self.store = wasmtime.Store(engine)
        exports = wasmtime.Instance(self.store, module, []).exports(self.store)
        memory, dirty = exports["memory"], exports["dirty_at"]
        assert isinstance(memory, wasmtime.Memory)
        assert isinstance(dirty, wasmtime.Func)
        self._dirty = dirty
        self.nbytes = memory.data_len(self.store)
        self.address = ctypes.cast(memory.data_ptr(self.store), ctypes.c_void_p).value or 0

    def dirty(self, place: int) -> None:
        # an i32 is signed where it is passed
        self._dirty(self.store, place - (1 << 32) if place >= 1 << 31 else place)


class Data:
    """The one segment of the guest."""

    offset = 1024
    content = DATA


def measure_reset(rounds: int) -> dict[str, Any]:
    """Median seconds for each size, of each strategy and of a fresh instance."""
    engine = wasmtime.Engine()
    rows = {}
    for pages in PAGES:
        module = wasmtime.Module(engine, guest(pages))
        with ExitStack() as stack:
            ways = dict(ways_to_reset(engine, module, stack))
            ways["fresh, call"] = lambda module=module: fresh_call(engine, module)  # type: ignore[misc]  # bound now
            rows[str(pages)] = medians(ways, rounds, number=200)
    return rows


def ways_to_reset(
    engine: wasmtime.Engine, module: wasmtime.Module, stack: ExitStack
) -> Iterator[tuple[str, Callable[[], float]]]:
    """For each strategy that is worth it a reset alone, low and high, and with the call before it."""
    for at, name in enumerate(STRATEGIES):
        resetter = stack.enter_context(open_resetter(STRATEGIES[:at]))
        for label in ("low", "high", "call"):
            # one each: what the others wrote to would have to be reset as well
            instance = PlainInstance(engine, module)
            stack.callback(instance.store.close)
            if resetter.strategy == name and resetter.is_worthwhile(instance.nbytes):
                place = instance.nbytes - DIRTIED if label == "high" else 2 * PAGE
                yield f"{name}, {label}", resetting(resetter, instance, place, with_call=label == "call")


def resetting(resetter: Resetter, instance: PlainInstance, place: int, *, with_call: bool) -> Callable[[], float]:
    baseline = Baseline.of([Data()], instance.nbytes)

    def once() -> float:
        begin = time.perf_counter()
        instance.dirty(place)
        called = time.perf_counter()
        resetter.reset(instance.address, instance.nbytes, baseline)
        return time.perf_counter() - (begin if with_call else called)

    return once


def fresh_call(engine: wasmtime.Engine, module: wasmtime.Module) -> float:
    begin = time.perf_counter()
    instance = PlainInstance(engine, module)
    instance.dirty(2 * PAGE)
    instance.store.close()
    return time.perf_counter() - begin


def print_reset(rows: dict[str, dict[str, float]]) -> None:
    for kind in ("low", "high", "call"):
        names = [f"{name}, {kind}" for name in STRATEGIES] + ["fresh, call"] * (kind == "call")
        print(f"{'pages':>7}" + "".join(f"{name:>15}" for name in names))
        for pages, row in rows.items():
            print(f"{int(pages):>7,}" + "".join(f"{microseconds(row.get(name)):>15}" for name in names))
    for kind in ("low", "high"):
        scans = [row[f"pagemap, {kind}"] for row in rows.values() if f"pagemap, {kind}" in row]
        if scans:
            print(f"pagemap, {kind}: slowest to fastest {max(scans) / min(scans):.1f}; goal: at most 5")


# ---------------------------------------------------------------------------------------------------------- common


def medians(ways: dict[str, Callable[[], float]], rounds: int, number: int) -> dict[str, float]:
    """The median of what each way says that it took, over rounds in which they alternate."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):  # the first one warms up
        for name, once in ways.items():
            taken = statistics.median(once() for _ in range(number))
            if round_:
                times[name].append(taken)
    return {name: statistics.median(each) for name, each in times.items()}


def microseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:.1f} us"


PARTS: dict[str, tuple[Callable[[int], dict[str, Any]], Callable[[dict[str, Any]], None]]] = {
    "reset": (measure_reset, print_reset),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", type=parts, default=list(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = {}
    if not options.json:
        print(f"Python {platform.python_version()}, wasmtime {version('wasmtime')}, Linux {platform.release()}")
    for name in options.only:
        measure, show = PARTS[name]
        figures[name] = measure(options.rounds)
        if not options.json:
            print(f"\n{name}")
            show(figures[name])
    if options.json:
        print(json.dumps(figures, indent=2))


def parts(text: str) -> Iterable[str]:
    names = text.split(",")
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(unknown)}")
    return names


if __name__ == "__main__":
    main()
