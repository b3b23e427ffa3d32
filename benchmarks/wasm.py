"""What isolation costs in the WebAssembly plugin, beside plain wasmtime-py and Extism.

    python benchmarks/wasm.py [--only reset,call,...] [--rounds 9] [--json]

reset       A call wrote to 64 KiB of an instance's memory; what it costs to make that pristine again, for memories
            of 16 to 65,535 pages, by each strategy. "low" was written at 128 KiB of the memory, "high" at its end.
            "call" is the call and the reset, since memory that was given back is paid for by the next call; beside it a
            fresh instance of the public API with the same call. A strategy that is not worth it has no figure.
call        An isolated call that writes to 64 KiB, beside the cold path of the public API and a fresh plugin of Extism.
numeric     A call of (i32, i32) -> i32 in an instance that is there.
modules     Five modules that nobody here wrote: work, random writes, other globals, reset; compared with fresh ones.
            Then calls that are stopped in the middle, with a reset by force after each.
deadline    Endless loops, beside a thread that calls all the time.
throughput  Six clients under limits that are fixed, and under those that follow load.
state       What a suspend and a resume take, and a database in memory that another process goes on with.
cache       SQLite compiled, and from the cache of compiled modules.

Rounds alternate in one process; the figures are medians.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import logging
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wasmtime
from weighbridge_hookspecs import DeadlineExceeded, OutOfFuel

from weighbridge import Host
from weighbridge.leases.gate import ConcurrencyGate
from weighbridge_wasm.compiled import CompiledCache
from weighbridge_wasm.concurrency import ConcurrencyControl
from weighbridge_wasm.cores import Cores, find_cores
from weighbridge_wasm.engine import Engine
from weighbridge_wasm.instance import Instance
from weighbridge_wasm.load import open_load
from weighbridge_wasm.pool import WarmPool
from weighbridge_wasm.program import Program
from weighbridge_wasm.reset import Baseline, Resetter, open_resetter

KIB = 1024
PAGE = 64 * KIB
DIRTIED = 64 * KIB
DATA = bytes(range(1, 251)) * 41  # some 10 KiB
PAGES = (16, 256, 4096, 65_535)
STRATEGIES = ("pagemap", "madvise", "copy")


def guest(pages: int) -> bytes:
    """A module that writes to 64 KiB, computes, and loops; with nine exports, for the public API makes an object of
    each before a call, and what a compiler makes of a small library has so many.
    """
    arithmetic = "".join(
        f'(func (export "{name}") (param i32 i32) (result i32) (i32.{name} (local.get 0) (local.get 1)))'
        for name in ("add", "sub", "mul", "xor")
    )
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
              {arithmetic}
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


# ------------------------------------------------------------------------------------------------------------ call


def measure_call(rounds: int) -> dict[str, Any]:
    """Median seconds of an isolated call that writes to 64 KiB, for memories of 16 and 256 pages."""
    rows = {}
    for pages in PAGES[:2]:
        wasm = guest(pages)
        with ExitStack() as stack:
            ways = {
                "WasmScaling.call": scaled(wasm, stack),
                "pool alone": pooled(wasm, stack),
                "wasmtime-py, cold": cold(wasm, bounded=False),
                "the same, bounded": cold(wasm, bounded=True),
            }
            if importlib.util.find_spec("extism") is not None:
                ways["Extism, fresh"] = extism_fresh(wasm)
            rows[str(pages)] = medians(ways, rounds, number=200)
    return rows


def scaled(wasm: bytes, stack: ExitStack) -> Callable[[], float]:
    """Everything: the gate, the pool, the call, the full reset, and the way back."""
    scaling = stack.enter_context(scaling_host(stack.enter_context(tempfile.TemporaryDirectory())))
    scaling.register(wasm, name="guest")
    return timed(lambda: scaling.call("guest", "dirty"))


def pooled(wasm: bytes, stack: ExitStack) -> Callable[[], float]:
    """Acquire, call, full reset, release."""
    engine = stack.enter_context(Engine())
    resetter = stack.enter_context(open_resetter())
    program = stack.enter_context(Program(engine, wasm, resetter=resetter))
    pool: WarmPool[Instance] = WarmPool()
    stack.callback(pool.close)

    def once() -> object:
        instance = pool.acquire("guest") or pool.adopt("guest", program.instantiate())
        try:
            return instance.call("dirty")
        finally:
            pool.release(instance)

    return timed(once)


def cold(wasm: bytes, *, bounded: bool) -> Callable[[], float]:
    """The quickest way of the public API: compiled and linked before, a store and an instance for each call.

    :param bounded: with a bound on memory, fuel and a deadline, which are part of a call of ours.
    """
    config = wasmtime.Config()
    config.consume_fuel = config.epoch_interruption = bounded
    engine = wasmtime.Engine(config)
    linked = wasmtime.Linker(engine).instantiate_pre(wasmtime.Module(engine, wasm))

    def once() -> object:
        store = wasmtime.Store(engine)
        if bounded:
            store.set_limits(memory_size=256 * PAGE, table_elements=10_000, instances=1)
            store.set_fuel(1 << 62)
            store.set_epoch_deadline(3_000)
        dirty = linked.instantiate(store).exports(store)["dirty"]
        assert isinstance(dirty, wasmtime.Func)
        result = dirty(store)
        store.close()
        return result

    return timed(once)


def extism_fresh(wasm: bytes) -> Callable[[], float]:
    """A fresh plugin from what was compiled before, and a call."""
    peer: Any = importlib.import_module("extism.extism")
    compiled = peer.CompiledPlugin({"wasm": [{"data": wasm}]}, wasi=False, functions=[])

    def once() -> object:
        return peer.Plugin(compiled).call("dirty", b"")

    return timed(once)


def print_call(rows: dict[str, dict[str, float]]) -> None:
    names = list(next(iter(rows.values())))
    print(f"{'pages':>7}" + "".join(f"{name:>20}" for name in names))
    for pages, row in rows.items():
        print(f"{int(pages):>7,}" + "".join(f"{microseconds(row[name]):>20}" for name in names))
    for peer in names[2:]:
        ratios = ", ".join(ratio(row["WasmScaling.call"], row[peer]) for row in rows.values())
        print(f"WasmScaling.call is {ratios} of {peer}; goal: at most 1/5")


def measure_numeric(rounds: int) -> dict[str, float]:
    """Median seconds of a call of (i32, i32) -> i32 in an instance that is there."""
    wasm = guest(16)
    native = wasmtime.Engine()
    store = wasmtime.Store(native)
    add = wasmtime.Instance(store, wasmtime.Module(native, wasm), []).exports(store)["add"]
    assert isinstance(add, wasmtime.Func)
    with Engine() as engine, Program(engine, wasm) as program, program.instantiate() as instance:
        assert instance.call("add", (20, 22)) == add(store, 20, 22) == 42
        ways = {
            "Instance.call": timed(lambda: instance.call("add", (20, 22))),
            "wasmtime-py": timed(lambda: add(store, 20, 22)),
        }
        return medians(ways, rounds, number=5_000)


def print_numeric(row: dict[str, float]) -> None:
    ours, plain = row["Instance.call"], row["wasmtime-py"]
    print(f"ours {microseconds(ours)}, wasmtime-py {microseconds(plain)}: {ratio(ours, plain)}; goal: at most 1/5")


# ---------------------------------------------------------------------------------------------------- foreign modules


INTERRUPTIONS = 5_000


def measure_modules(rounds: int) -> dict[str, Any]:
    """How often a memory or a global of a reset instance was not that of a fresh one, in 200 rounds for each module."""
    rows = {}
    found = foreign()
    with Engine() as engine, open_resetter() as resetter:
        for driver in found.drivers.ALL:
            wasm = driver.module.read()
            with Program(engine, wasm, functions=driver.functions, max_pages=512, resetter=resetter) as program:
                rows[driver.module.package.name] = compare_with_fresh(program, driver, 200) | interrupt(program, driver)
    return rows


def compare_with_fresh(program: Program, driver: Any, rounds: int) -> dict[str, int]:
    """Work, write at random, reset; then memory, globals and the next output are compared."""
    chance = random.Random(20_26)
    counts = dict.fromkeys(("rounds", "reset in place", "grown, closed", "differences", "wrong outputs"), 0)
    with program.instantiate() as untouched:
        wanted = content(untouched)
    warm = program.instantiate()
    for _ in range(rounds):
        counts["rounds"] += 1
        data = driver.input(chance)
        counts["wrong outputs"] += not driver.is_right(data, driver.run(warm, data))
        spoil(warm, chance)
        if warm.reset():
            counts["reset in place"] += 1
            counts["differences"] += content(warm) != wanted
        else:
            counts["grown, closed"] += warm.memory_bytes != len(wanted[0])
            warm.close()
            warm = program.instantiate()
    warm.close()
    return counts


def interrupt(program: Program, driver: Any) -> dict[str, int]:
    """Stop 5,000 calls in the middle, reset the instance by force each time, and see what it computes then."""
    chance = random.Random(20_26)
    counts = {"interrupted": 0, "then wrong": 0}
    warm = program.instantiate()
    while counts["interrupted"] < INTERRUPTIONS:
        try:
            driver.run(Fuelled(warm, chance.randrange(3_000)), driver.input(chance))
        except OutOfFuel:
            counts["interrupted"] += 1
        if not warm.reset(even_spoiled=True):  # it had grown before
            warm.close()
            warm = program.instantiate()
    data = driver.input(chance)
    counts["then wrong"] += not driver.is_right(data, driver.run(warm, data))
    warm.close()
    return counts


class Fuelled:
    """An instance as the drivers want it, each of whose calls may use so much."""

    def __init__(self, instance: Instance, fuel: int) -> None:
        self.read, self.write = instance.read, instance.write
        self._instance, self._fuel = instance, fuel

    def call(self, function: str, arguments: Sequence[int | float]) -> Any:
        return self._instance.call(function, arguments, fuel=self._fuel)


def content(instance: Instance) -> tuple[bytes, tuple[int, ...]]:
    return instance.read(0, instance.memory_bytes), instance.globals()


def spoil(instance: Instance, chance: random.Random) -> None:
    """Write at random places, change every global, and grow now and then."""
    size = instance.memory_bytes
    for _ in range(chance.randrange(9)):
        nbytes = min(size, chance.choice((1, 64, 5_000, 200_000)))
        instance.write(chance.randrange(size - nbytes + 1), chance.randbytes(nbytes))
    instance.set_globals([chance.getrandbits(31) for _ in instance.globals()])
    if chance.random() < 0.02:
        instance.grow(1)


def print_modules(rows: dict[str, dict[str, int]]) -> None:
    names = list(next(iter(rows.values())))
    print(f"{'':<24}" + "".join(f"{name:>{len(name) + 2}}" for name in names))
    for module, row in rows.items():
        print(f"{module:<24}" + "".join(f"{row[name]:>{len(name) + 2}}" for name in names))
    print("goal: no differences, and nothing wrong")


# --------------------------------------------------------------------------------------------------------- deadline


def measure_deadline(rounds: int) -> dict[str, Any]:
    """Seconds beyond its deadline at which an endless loop ended, and what another thread computed meanwhile."""
    deadline_seconds = 0.05
    over, right, wrong = [], 0, 0
    with (
        Engine() as engine,
        Program(engine, guest(16)) as program,
        running_ticker(engine),
        program.instantiate() as other,
    ):
        for number in range(3 * rounds):
            with program.instantiate() as endless, ThreadPoolExecutor(1) as threads:
                begin = time.perf_counter()
                ending = threads.submit(ends_late, endless, deadline_seconds, begin)
                while not ending.done():
                    is_right = other.call("add", (number, right)) == number + right
                    right, wrong = right + is_right, wrong + (not is_right)
                over.append(ending.result())
    return {"loops": len(over), "median": statistics.median(over), "worst": max(over), "right": right, "wrong": wrong}


def ends_late(instance: Instance, deadline_seconds: float, begin: float) -> float:
    try:
        instance.call("endless", (), deadline_seconds=deadline_seconds)
    except DeadlineExceeded:
        return time.perf_counter() - begin - deadline_seconds
    raise AssertionError("an endless loop came to an end")


@contextmanager
def running_ticker(engine: Engine) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=engine.run_ticker, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def print_deadline(row: dict[str, Any]) -> None:
    print(f"{row['loops']} endless loops of 50 ms beside a thread that calls all the time")
    print(f"ended {row['median'] * 1e3:.1f} ms late, at worst {row['worst'] * 1e3:.1f} ms; goal: at most 30 ms")
    print(f"calls of the other thread meanwhile: {row['right']:,} right, {row['wrong']} wrong")


# ------------------------------------------------------------------------------------------------------- throughput

CLIENTS = 6
SLICE_SECONDS = 1.0
INTERVAL_SECONDS = 0.25


def measure_throughput(rounds: int) -> dict[str, Any]:
    """Calls a second of six clients whose calls compute for some 5 ms, under each limit; medians over the rounds."""
    cores = find_cores()
    limits: dict[str, list[float]] = {f"static {count}": [] for count in range(1, 2 * cores.count + 1)}
    limits |= {"external": [], "system": []}
    with ExitStack() as stack:
        engine = stack.enter_context(Engine())
        program = stack.enter_context(Program(engine, guest(16)))
        clients = [stack.enter_context(program.instantiate()) for _ in range(CLIENTS)]
        times = work_of(0.005, clients[0])
        gates = {name: Crowd(name, cores, clients, times, stack) for name in limits}
        for round_ in range(rounds + 1):  # the first one warms up, and lets the limits find their place
            for name, crowd in gates.items():
                done = crowd.work(SLICE_SECONDS if round_ else 8 * INTERVAL_SECONDS)
                if round_:
                    limits[name].append(done)
        found = {name: gates[name].limit for name in ("external", "system")}
    return {"limits": found, **{name: statistics.median(each) for name, each in limits.items()}}


class Crowd:
    """Six clients at a gate whose limit is fixed, or follows a load."""

    def __init__(self, name: str, cores: Cores, clients: list[Instance], times: int, stack: ExitStack) -> None:
        self._gate = ConcurrencyGate(int(name.split()[1]) if name.startswith("static") else cores.count)
        self._clients, self._times = clients, times
        self._control: ConcurrencyControl | None = None
        if not name.startswith("static"):
            load = open_load("external" if name == "external" else "system", cores)
            stack.callback(load.close)
            self._control = ConcurrencyControl(cores, load, self._gate.resize, interval_seconds=INTERVAL_SECONDS)

    @property
    def limit(self) -> int:
        return self._gate.statistics().limit

    def work(self, seconds: float) -> float:
        """Calls a second."""
        stop = threading.Event()
        begin = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as threads:
            counts = [threads.submit(self._client, instance, stop) for instance in self._clients]
            while time.perf_counter() - begin < seconds:
                time.sleep(INTERVAL_SECONDS)
                if self._control is not None:
                    self._control.tick()
            stop.set()
            done = sum(count.result() for count in counts)
        return done / (time.perf_counter() - begin)

    def _client(self, instance: Instance, stop: threading.Event) -> int:
        done = 0
        while not stop.is_set():
            with self._gate.enter(timeout_seconds=60.0):
                instance.call("work", (self._times,))
            done += 1
        return done


def work_of(seconds: float, instance: Instance) -> int:
    """How often the loop has to be gone through to take that long."""
    best = min(timed(lambda: instance.call("work", (1_000_000,)))() for _ in range(9))
    return int(1_000_000 * seconds / best)


def print_throughput(row: dict[str, Any]) -> None:
    static = {name: figure for name, figure in row.items() if name.startswith("static")}
    best = max(static.values())
    print(f"{CLIENTS} clients, calls of some 5 ms")
    for name, figure in row.items():
        if name != "limits":
            at = f"  limit {row['limits'][name]}" if name in row["limits"] else ""
            print(f"{name:<10}{figure:>8.0f} a second{figure / best:>8.0%} of the best static limit{at}")
    print("goal: external at least 90 %")


# ------------------------------------------------------------------------------------------------------------ state

ROWS = 1_000


def measure_state(rounds: int) -> dict[str, Any]:
    """Seconds to suspend and to resume 64 KiB; and a database in memory that outlives its process."""
    with tempfile.TemporaryDirectory() as folder, scaling_host(folder) as scaling:
        scaling.register(guest(16), {"keep_state": True}, name="guest")

        def suspend() -> float:
            scaling.call("guest", "dirty")
            return timed(lambda: scaling.suspend("guest"))()

        ways = {"suspend": suspend, "resume": timed(lambda: scaling.resume("guest"))}
        figures: dict[str, Any] = medians(ways, 5 * rounds, number=1)
    with tempfile.TemporaryDirectory() as folder:
        handle = in_fresh_process("write", folder, "0")
        return {**figures, "database": in_fresh_process("read", folder, str(handle))}


@contextmanager
def scaling_host(folder: str) -> Iterator[Any]:
    """A host with a store in `folder`, and what its plugin ``wasm`` offers."""
    settings = {"wasm": {"cache_folder": str(Path(folder) / "compiled")}}
    with Host(store=Path(folder) / "store.db", settings=settings) as host:
        host.load("wasm")
        yield host.capabilities["wasm"]


def in_fresh_process(role: str, *arguments: str) -> Any:
    command = [sys.executable, __file__, "--role", role, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def write_database(folder: str, _: str) -> int:
    """Put rows into a database in memory, and suspend it with its module; the address of the connection."""
    with database_of(folder) as (scaling, sqlite):
        with scaling.session("sqlite") as session:
            sqlite.start(Guest(session))
            database = sqlite.Database.open(Guest(session))
            database.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)")
            for first in range(0, ROWS, 100):
                values = ", ".join(f"({key}, 'row {key}')" for key in range(first, first + 100))
                database.execute(f"INSERT INTO t VALUES {values}")
        scaling.suspend("sqlite")
        return int(database.handle)


def read_database(folder: str, handle: str) -> dict[str, Any]:
    """What another process finds, and whether it can write to it."""
    with database_of(folder) as (scaling, sqlite), scaling.session("sqlite") as session:
        database = sqlite.Database(Guest(session), int(handle))
        rows = database.execute("SELECT count(*), sum(k), min(v), max(v) FROM t")
        database.execute("DELETE FROM t WHERE k < 10")
        left = database.execute("SELECT count(*) FROM t")
    return {"rows": rows, "left after a delete": left}


@contextmanager
def database_of(folder: str) -> Iterator[tuple[Any, Any]]:
    found = foreign()
    driver = next(each for each in found.drivers.ALL if each.module is found.catalogue.SQLITE)
    with scaling_host(folder) as scaling:
        scaling.register(
            driver.module.read(), {"keep_state": True, "max_pages": 512}, name="sqlite", functions=driver.functions
        )
        yield scaling, importlib.import_module("foreign.drivers.sqlite")


class Guest:
    """A session as the drivers of the foreign modules want it."""

    def __init__(self, session: Any) -> None:
        self.read, self.write = session.read, session.write
        self._session = session

    def call(self, function: str, arguments: Sequence[int | float]) -> Any:
        return self._session.call(function, *arguments)


def print_state(row: dict[str, Any]) -> None:
    print(
        f"64 KiB: suspend {row['suspend'] * 1e3:.2f} ms, resume {row['resume'] * 1e3:.2f} ms; goal: at most 2 ms each"
    )
    print(f"SQLite, {ROWS:,} rows in memory, suspended; what another process found (count, sum, min, max), and wrote:")
    print(", ".join(f"{name}: {found}" for name, found in row["database"].items()))


# ----------------------------------------------------------------------------------------------------------- cache


def measure_cache(rounds: int) -> dict[str, Any]:
    """Seconds to compile SQLite, and to get it from the cache with an engine that never saw it."""
    wasm = foreign().catalogue.SQLITE.read()
    times: dict[str, list[float]] = {"compiled": [], "from the cache": []}
    hits = 0
    for _ in range(min(rounds, 3)):  # it takes a second and more
        with tempfile.TemporaryDirectory() as folder:
            for taken in times.values():
                with Engine() as engine:
                    cache = CompiledCache(folder, log=logging.getLogger(__name__))
                    begin = time.perf_counter()
                    module = cache.module(wasm, engine)
                    taken.append(time.perf_counter() - begin)
                    module.close()
                hits += cache.statistics().hits
    return {"wasm bytes": len(wasm), "hits": hits, **{name: statistics.median(each) for name, each in times.items()}}


def print_cache(row: dict[str, Any]) -> None:
    compiled, loaded = row["compiled"], row["from the cache"]
    print(f"SQLite, {row['wasm bytes']:,} bytes; compiled and kept {compiled * 1e3:,.1f} ms")
    print(f"from the cache, verified {loaded * 1e3:.1f} ms: 1/{compiled / loaded:.0f}; goal: at most 1/50")


def foreign() -> Any:
    """The modules that nobody here wrote, which the tests of the plugin fetch."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "wasm" / "tests"))
    found = importlib.import_module("foreign")
    for name in ("catalogue", "drivers", "packages"):
        importlib.import_module(f"foreign.{name}")
    found.packages.fetch([module.package for module in found.catalogue.ALL], lambda text: print(text, file=sys.stderr))
    return found


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


def timed(once: Callable[[], object]) -> Callable[[], float]:
    """The same, saying how long it took."""

    def run() -> float:
        begin = time.perf_counter()
        once()
        return time.perf_counter() - begin

    return run


def ratio(ours: float, other: float) -> str:
    return f"1/{other / ours:.1f}"


def microseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:.1f} us"


PARTS: dict[str, tuple[Callable[[int], dict[str, Any]], Callable[[dict[str, Any]], None]]] = {
    "reset": (measure_reset, print_reset),
    "call": (measure_call, print_call),
    "numeric": (measure_numeric, print_numeric),
    "modules": (measure_modules, print_modules),
    "deadline": (measure_deadline, print_deadline),
    "throughput": (measure_throughput, print_throughput),
    "state": (measure_state, print_state),
    "cache": (measure_cache, print_cache),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", type=parts, default=list(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--role", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        role, folder, handle = options.role
        print(json.dumps((write_database if role == "write" else read_database)(folder, handle)))
        return
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
