"""Modules that nobody here wrote, in a host: these tests need ``weighbridge[testing]``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from weighbridge_hookspecs import OutOfFuel

from .catalogue import LZ4, SQLITE
from .drivers.lz4 import RESULT_BYTES, Lz4
from .in_session import InSession
from .wanted import wasm

isolation = pytest.importorskip(
    "weighbridge.isolation", reason="pip install 'weighbridge[testing]' to test the plugin in a host"
)
pytestmark = pytest.mark.checkout

INTERRUPTIONS: Final = 5_000
ROWS: Final = 1_000


class Process:
    """Runs statements in a database that a process takes over from the one before."""

    def __init__(self, folder: Path, code: bytes) -> None:
        self._folder = folder
        self._handle = "new"
        (folder / "sqlite3.wasm").write_bytes(code)

    def run(self, *statements: str) -> Any:
        """What each statement gave, in a process that has ended by then."""
        places = [str(self._folder / "store.sqlite3"), str(self._folder / "sqlite3.wasm")]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "foreign.hosted", *places, self._handle, *statements],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "WEIGHBRIDGE_CACHE": str(self._folder / "cache"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        self._handle = str(found["handle"])
        return found


def test_database_in_memory_outlives_its_process(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """1,000 rows of one process, which only unloads its plugin, are there in the next one, which adds one more."""
    process = Process(tmp_path, wasm(pytestconfig, SQLITE))
    process.run(
        "CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)",
        f"WITH RECURSIVE n (k) AS (VALUES (1) UNION ALL SELECT k + 1 FROM n WHERE k < {ROWS})"
        " INSERT INTO t SELECT k, hex(k * k) FROM n",
    )
    query = "SELECT count(*), sum(k), sum(length(v)) FROM t"
    lengths = sum(2 * len(str(k * k)) for k in range(1, ROWS + 1))
    total = ROWS * (ROWS + 1) // 2
    found = process.run(query, f"INSERT INTO t VALUES ({ROWS + 1}, 'new')", query, "PRAGMA integrity_check")
    assert found["rows"] == [
        [[str(ROWS), str(total), str(lengths)]],
        [],
        [[str(ROWS + 1), str(total + ROWS + 1), str(lengths + 3)]],
        [["ok"]],
    ]
    assert found["hits"] == 1  # nothing was compiled again


def run_out(scaling: Any, fuel: int) -> None:
    """Compress something in a session, with too little fuel."""
    with scaling.session("lz4") as session:
        result = session.call("__wbindgen_add_to_stack_pointer", -RESULT_BYTES)
        session.call("compress", result, 0, 500, fuel=fuel)


def test_interrupted_calls_of_a_module_harm_no_other_call(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 5,000 calls that ran out of fuel a module is called as if nothing had been, and its instances are gone."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "weighbridge_wasm"]:
        monkeypatch.delitem(sys.modules, name)
    driver, random = Lz4(), Random(9)

    with isolation.IsolatedHost(meter="process") as host:
        host.allow("wasm")
        host.load("wasm")
        scaling = host.capabilities["wasm"]
        scaling.register(wasm(pytestconfig, LZ4), name="lz4", functions=driver.functions)
        for _ in range(INTERRUPTIONS):
            with pytest.raises(OutOfFuel):
                run_out(scaling, random.randrange(1_000))
        with scaling.session("lz4") as session:
            data = driver.input(random)
            assert driver.is_right(data, driver.run(InSession(session), data))
        found = scaling.statistics()
        assert found.modules["lz4"].failed == {"OutOfFuel": INTERRUPTIONS}
        assert (found.pool.idle, found.pool.in_use) == (0, 0)  # those that were interrupted, and one that has grown
        del scaling, session
