"""Modules that nobody here wrote: a reset instance is a fresh one, whatever was done with it before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import attrs
import pytest
from weighbridge_hookspecs import DeadlineExceeded, OutOfFuel, StateRefused, StorageDamaged, Trapped, WorkError

from weighbridge_wasm.binary import PAGE_BYTES, DataSegment
from weighbridge_wasm.instance import Instance
from weighbridge_wasm.pool import WarmPool
from weighbridge_wasm.program import Program

from . import drivers
from .catalogue import SQLITE
from .drivers.driver import Driver
from .drivers.lz4 import RESULT_BYTES, Lz4
from .drivers.sqlite import Database, Sqlite
from .drivers.sqlite import start as start_sqlite
from .suspension import Folder, resume, suspend
from .wanted import wasm
from .workshop import Workshop, workshop

pytestmark = pytest.mark.checkout

ROUNDS: Final = 200
ROUNDS_OF_OTHER_WAYS: Final = 25
INTERRUPTIONS: Final = 5_000
HITS_OF_THE_CLOCK: Final = 25
ROWS: Final = 1_000

every_module = pytest.mark.parametrize("driver", drivers.ALL, ids=lambda driver: type(driver).__name__)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled modules are kept: each is compiled once for this file."""
    return tmp_path_factory.mktemp("wasm") / "compiled"


@pytest.fixture(scope="module")
def tools(compiled: Path, pytestconfig: pytest.Config) -> Iterator[Workshop]:
    with workshop(compiled, lambda module: wasm(pytestconfig, module)) as opened:
        yield opened


@pytest.fixture(scope="module")
def public(compiled: Path, pytestconfig: pytest.Config) -> Iterator[Workshop]:
    """The same by the public names of wasmtime-py."""
    with workshop(compiled, lambda module: wasm(pytestconfig, module), private=False) as opened:
        yield opened


# -- reset compared with fresh ---------------------------------------------------------------------------------------


@attrs.frozen
class State:
    """All that a module can tell one instance from another by."""

    memory: bytes = attrs.field(repr=False)
    globals: tuple[int, ...]
    tables: tuple[int, ...] | None = None
    """Their sizes; None where the way into the instance does not show them."""

    @classmethod
    def of(cls, program: Program, instance: Instance) -> State:
        memory = instance.read(0, instance.memory_bytes)
        exports: Any = getattr(instance._access, "_exports", None)
        if exports is None:
            return cls(memory, instance.globals())
        tables = tuple(exports[table.export].size(instance._store) for table in program.facts.tables)
        return cls(memory, instance.globals(), tables)


@attrs.define
class Unsound:
    """A guest in whose memory anything may stand: what is called may trap, and never takes long."""

    instance: Instance
    fuel: int

    def call(self, function: str, args: Sequence[int | float], /) -> Any:
        self.fuel = max(0, self.fuel - 3_000)
        return self.instance.call(function, args, fuel=self.fuel)

    def read(self, address: int, nbytes: int, /) -> bytes:
        return self.instance.read(address, nbytes)

    def write(self, address: int, data: bytes, /) -> None:
        self.instance.write(address, data)


def use(driver: Driver, instance: Instance, random: Random) -> None:
    """What may happen to an instance: work, writes anywhere, globals with anything in them, traps, growth."""
    if random.random() < 0.5:
        driver.run(instance, driver.input(random))
    for _ in range(random.randrange(5)):
        address = random.randrange(instance.memory_bytes)
        nbytes = min(random.choice((1, 100, 4_096, 70_000)), instance.memory_bytes - address)
        instance.write(address, random.choice((random.randbytes, bytes))(nbytes))
    if random.random() < 0.5:
        instance.set_globals([random.getrandbits(32) for _ in instance.globals()])
    if random.random() < 0.3:
        # addresses, sizes, texts and SQLite's codes are whatever stands there
        with suppress(WorkError, IndexError, ValueError, RuntimeError):
            driver.run(Unsound(instance, int(10 ** random.uniform(1, 5.5))), driver.input(random))
    if random.random() < 0.1:
        instance.grow(random.randrange(1, 3))


def compare(driver: Driver, program: Program, rounds: int) -> tuple[int, int]:
    """Use, reset, compare and run, until `rounds` resets were compared; how many instances had grown, or were spoiled.

    The whole memory is read at the end of a round only, for a page that was read looks different to the kernel; and
    many a round begins with an instance of which no page was read.
    """
    random = Random(f"{type(driver).__name__} {rounds}")
    ngrown = nspoiled = 0
    with program.instantiate() as instance:
        pristine = State.of(program, instance)
    instance = program.instantiate()
    while rounds:
        use(driver, instance, random)
        has_grown = instance.memory_bytes > len(pristine.memory)
        if instance.is_spoiled:
            assert not instance.reset()
            nspoiled += 1
        assert instance.reset(even_spoiled=True) is not has_grown
        if not has_grown:
            assert State.of(program, instance) == pristine
            data = driver.input(random)
            with program.instantiate() as fresh:
                expected = driver.run(fresh, data)
            assert driver.run(instance, data) == expected
            assert driver.is_right(data, expected)
            rounds -= 1
        if has_grown or not instance.reset() or random.random() < 0.3:
            ngrown += has_grown
            instance.close()
            instance = program.instantiate()
    instance.close()
    return ngrown, nspoiled


@every_module
def test_reset_instance_cannot_be_told_from_a_fresh_one(driver: Driver, tools: Workshop) -> None:
    """Memory and globals are those of a fresh instance, byte for byte, and so is what comes out; after traps too."""
    program = tools.program(driver)
    assert program.obstacles == ()
    (memory,) = program.facts.memories
    can_grow = memory.maximum_pages != memory.minimum_pages
    ngrown, nspoiled = compare(driver, program, ROUNDS)
    assert (ngrown > 0) is can_grow
    assert nspoiled > 0


@every_module
def test_reset_by_public_names_leaves_tables_as_they_were(driver: Driver, public: Workshop) -> None:
    """The same without the private names of wasmtime-py, which also shows the sizes of tables."""
    program = public.program(driver)
    with program.instantiate() as instance:
        tables = State.of(program, instance).tables
    assert tables is not None
    assert len(tables) == len(program.facts.tables)
    compare(driver, program, ROUNDS_OF_OTHER_WAYS)


@pytest.mark.parametrize("without", [("pagemap",), ("pagemap", "madvise")], ids=" ".join)
def test_where_the_kernel_lacks_a_way_the_next_one_is_as_complete(
    without: tuple[str, ...], compiled: Path, pytestconfig: pytest.Config
) -> None:
    """Without the map of pages, and without advice too; what would be slow then has fresh instances, and says so."""
    with workshop(compiled, lambda module: wasm(pytestconfig, module), without=without) as tools:
        assert tools.resetter.strategy not in without
        for driver in drivers.ALL:
            program = tools.program(driver)
            if program.obstacles:
                assert "a fresh instance is cheaper" in program.obstacles[0]
                with program.instantiate() as instance:
                    assert not instance.reset()
            else:
                compare(driver, program, ROUNDS_OF_OTHER_WAYS)


# -- interrupted -----------------------------------------------------------------------------------------------------


@contextmanager
def running_clock(tools: Workshop) -> Iterator[None]:
    """The engine's clock at full speed, so that an interruption hits anywhere; a call gets its turn in between."""
    stop, before = threading.Event(), sys.getswitchinterval()

    def tick() -> None:
        while not stop.is_set():
            tools.engine.native.increment_epoch()

    thread = threading.Thread(target=tick)
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)


def begin(instance: Instance, data: bytes) -> tuple[int, int, int]:
    """Arguments of a call of ``compress``: a place for the result on the stack, and `data` behind it in memory."""
    address = instance.memory_bytes - PAGE_BYTES
    instance.write(address, data)
    return instance.call("__wbindgen_add_to_stack_pointer", (-RESULT_BYTES,)), address, len(data)


def run_out(instance: Instance, random: Random) -> None:
    """Interrupt ``compress`` by its fuel, before its first allocation: the memory is as large as before."""
    arguments = begin(instance, random.randbytes(500))
    with pytest.raises(OutOfFuel):
        instance.call("compress", arguments, fuel=random.randrange(200))


def works(driver: Driver, instance: Instance) -> bool:
    """Whether what comes out is right."""
    data = driver.input(Random(7))
    return driver.is_right(data, driver.run(instance, data))


def test_after_every_interruption_by_fuel_a_reset_by_force_is_complete(tools: Workshop) -> None:
    """Of 5,000 interruptions nothing is left: the hidden stack pointer is where it was, and the result is right."""
    driver, random = Lz4(), Random(1)
    program = tools.program(driver)
    with program.instantiate() as instance:
        pristine = State.of(program, instance)
        for _ in range(INTERRUPTIONS):
            run_out(instance, random)
            assert instance.is_spoiled
            assert not instance.reset()
            assert instance.reset(even_spoiled=True)
        assert State.of(program, instance) == pristine
        assert works(driver, instance)


def test_reset_of_memory_alone_does_not_survive_interruptions(tools: Workshop) -> None:
    """What the test above finds: without the global that no module exports, the stack has gone after a while."""
    program = tools.program(Lz4())
    random = Random(2)
    with program.instantiate() as instance:
        address, nbytes = instance.memory_address, instance.memory_bytes
        baseline = tools.resetter.capture(address, nbytes, program.facts.segments)
        for _ in range(2 * INTERRUPTIONS):
            run_out(instance, random)
            tools.resetter.reset(address, nbytes, baseline)
        with pytest.raises(Trapped) as caught:
            works(Lz4(), instance)
    assert caught.value.code == "MEMORY_OUT_OF_BOUNDS"


def test_reset_to_what_was_captured_in_use_is_complete_too(tools: Workshop) -> None:
    """Interrupted in its loops, by fuel and by the clock, and back to what was there behind its first allocation."""
    driver, random = Lz4(), Random(3)
    content = bytes(random.choices(b"abcd", k=60_000))
    with tools.program(driver).instantiate() as instance:
        driver.apply(instance, "compress", content)
        address, nbytes, before = instance.memory_address, instance.memory_bytes, instance.globals()
        none: tuple[DataSegment, ...] = ()
        baseline = tools.resetter.capture(address, nbytes, none)
        expected = driver.apply(instance, "compress", content)

        def interrupted(**limit: int) -> bool:
            try:
                instance.call("compress", begin(instance, content), **limit)
            except (OutOfFuel, DeadlineExceeded):
                return True
            finally:
                assert instance.memory_bytes == nbytes
                tools.resetter.reset(address, nbytes, baseline)
                instance.set_globals(before)
            return False

        assert all(interrupted(fuel=random.randrange(50_000)) for _ in range(INTERRUPTIONS // 2))
        assert all(interrupted(deadline_ticks=0) for _ in range(INTERRUPTIONS // 2))
        with running_clock(tools):
            nhits = 0
            while nhits < HITS_OF_THE_CLOCK:
                nhits += interrupted(deadline_ticks=random.randrange(1, 9))
        assert driver.apply(instance, "compress", content) == expected
        assert works(driver, instance)


def test_interrupted_instances_are_closed_by_the_pool(tools: Workshop) -> None:
    """The ordinary way: after each of 5,000 interruptions the next call gets another instance, and a right result."""
    driver, random = Lz4(), Random(4)
    program = tools.program(driver)
    content = random.randbytes(500)
    pool: WarmPool[Instance] = WarmPool()
    for count in range(INTERRUPTIONS):
        instance = pool.acquire("lz4") or pool.adopt("lz4", program.instantiate())
        limit = {"fuel": random.randrange(2_000)} if count % 2 else {"deadline_ticks": 0}
        with pytest.raises((OutOfFuel, DeadlineExceeded)):
            instance.call("compress", begin(instance, content), **limit)
        assert not pool.release(instance)
    figures = pool.statistics()
    assert (figures.in_use, figures.idle) == (0, 0)
    instance = pool.adopt("lz4", program.instantiate())
    assert works(driver, instance)
    pool.drop(instance)
    pool.close()


# -- suspended -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Suspended:
    """A database that lies in a store."""

    store: Folder
    code: bytes
    handle: int


@pytest.fixture
def suspended(tools: Workshop, tmp_path: Path, pytestconfig: pytest.Config) -> Suspended:
    """A database of 1,000 rows in memory, suspended; its instance is gone."""
    store, code, program = Folder(tmp_path / "store"), wasm(pytestconfig, SQLITE), tools.program(Sqlite())
    store.path.mkdir()
    with program.instantiate() as instance:
        start_sqlite(instance)
        database = Database.open(instance)
        database.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)")
        database.execute(
            f"WITH RECURSIVE n (k) AS (VALUES (1) UNION ALL SELECT k + 1 FROM n WHERE k < {ROWS})"
            " INSERT INTO t SELECT k, hex(k * k) FROM n"
        )
        used = suspend(program, code, instance, tools.resetter, store)
        assert used < instance.memory_bytes // 10
    return Suspended(store, code, database.handle)


def test_database_is_there_in_a_new_process_and_can_be_written(
    suspended: Suspended, compiled: Path, tmp_path: Path
) -> None:
    """Every row is there, a row can be added, and the database says of itself that it is whole."""
    module = tmp_path / "sqlite3.wasm"
    module.write_bytes(suspended.code)
    statements = [
        "SELECT count(*), sum(k), sum(length(v)), max(v) FROM t",
        "INSERT INTO t SELECT max(k) + 1, 'new' FROM t",
        "DELETE FROM t WHERE k = 1",
        "SELECT count(*), sum(k) FROM t",
        "PRAGMA integrity_check",
    ]
    places = [str(suspended.store.path), str(compiled), str(module)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "foreign.suspension", *places, str(suspended.handle), *statements],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    values = [str(k * k).encode().hex().upper() for k in range(1, ROWS + 1)]
    total = ROWS * (ROWS + 1) // 2
    assert found["rows"] == [
        [[str(ROWS), str(total), str(sum(map(len, values))), max(values)]],
        [],
        [],
        [[str(ROWS), str(total - 1 + ROWS + 1)]],
        [["ok"]],
    ]
    assert found["loaded"] == 1


def test_damaged_database_is_refused_and_the_one_before_is_not_lost(suspended: Suspended, tools: Workshop) -> None:
    """A flipped bit anywhere in what was kept last is an error that names the module; the state before can be had."""
    program = tools.program(Sqlite())
    store = suspended.store
    older = set(store.keys())
    with program.instantiate() as instance:
        resume(suspended.code, instance, store)
        Database(instance, suspended.handle).execute("DELETE FROM t")
        suspend(program, suspended.code, instance, tools.resetter, store)
    parts = sorted(set(store.keys()) - older)
    assert parts
    random = Random(8)
    for key in parts:
        content = bytearray(store.get(key) or b"")
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        store.put(key, bytes(content))
    with program.instantiate() as instance:
        with pytest.raises(StorageDamaged, match="a database"):
            resume(suspended.code, instance, store)
        resume(suspended.code, instance, store, slot="previous")
        rows = Database(instance, suspended.handle).execute("SELECT count(*) FROM t")
    assert rows == [(str(ROWS),)]


def test_database_is_refused_by_other_code(suspended: Suspended, tools: Workshop) -> None:
    """A byte of another module behind it, and it is not its state; it stays."""
    with tools.program(Sqlite()).instantiate() as instance:
        with pytest.raises(StateRefused):
            resume(suspended.code + b"\0", instance, suspended.store)
        resume(suspended.code, instance, suspended.store)
        assert Database(instance, suspended.handle).execute("SELECT count(*) FROM t") == [(str(ROWS),)]
