"""What a put and a get cost, for three sizes, beside the bare means.

    python benchmarks/store.py [--rounds 30] [--folder .] [--json]

Each round does one put and one get with every means, in turn, in one folder of one disk. The baseline is a table of
SQLite in WAL mode with synchronous=FULL and no more: a key and a value, no checksum, no counts. "File" is what a
careful program does without a store: write, sync, rename, sync the folder. "obstore" is a folder through obstore, which
syncs nothing. Memory is what a process takes more once the means is imported and has put 100 values of 1 KB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES = (1_000, 100_000, 10_000_000)
MEANS = ("sqlite3", "file", "obstore", "StoreFile")
Pair = tuple[Callable[[str, bytes], object], Callable[[str], object]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--folder", default=".", help="on the disk that is to be measured")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(memory(options.memory_of))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = measure(Path(folder), options.rounds)
    base = resident("")
    taken = {name: resident(name) - base for name in MEANS}
    if options.json:
        print(json.dumps({"seconds": rows, "memory_bytes": taken}, indent=2))
        return
    heads = "".join(f"{size // 1000:>8,} KB put      get" for size in SIZES)
    print(f"{'':<12}{heads}{'memory':>12}")
    for name in MEANS:
        cells = "".join(f"{ratio(rows, name, size, 0):>14}{ratio(rows, name, size, 1):>9}" for size in SIZES)
        print(f"{name:<12}{cells}{taken[name] / 2**20:>+8.1f} MiB")
    firsts = ", ".join(
        f"{rows['sqlite3'][str(size)][0] * 1000:.2f} and {rows['sqlite3'][str(size)][1] * 1000:.3f} ms"
        for size in SIZES
    )
    print(f"1.0x is {firsts}")


def ratio(rows: dict[str, dict[str, Any]], name: str, size: int, which: int) -> str:
    """How many times the baseline."""
    return f"{rows[name][str(size)][which] / rows['sqlite3'][str(size)][which]:.1f}x"


def measure(folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """The median seconds of a put and of a get, by means and size."""
    found: dict[str, dict[str, Any]] = {name: {} for name in MEANS}
    pairs = {name: begin(name, folder) for name in MEANS}
    for size in SIZES:
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in MEANS}
        count = rounds if size < 1_000_000 else max(rounds // 3, 1)
        for number in range(count + 1):
            value = os.urandom(size)
            for name, (put, get) in pairs.items():
                began = time.perf_counter()
                put(f"key{number % 3}", value)
                between = time.perf_counter()
                back = get(f"key{number % 3}")
                ended = time.perf_counter()
                assert back == value
                if number:  # the first one warms up
                    times[name].append((between - began, ended - between))
        for name in MEANS:
            found[name][str(size)] = [statistics.median(one[which] for one in times[name]) for which in (0, 1)]
    return found


def begin(name: str, folder: Path) -> Pair:
    """A put and a get."""
    return {"sqlite3": bare_sqlite, "file": bare_file, "obstore": objects, "StoreFile": ours}[name](folder)


def bare_sqlite(folder: Path) -> Pair:
    """A table and nothing else."""
    import sqlite3

    connection = sqlite3.connect(folder / "bare", isolation_level=None)
    for statement in (
        "PRAGMA locking_mode=EXCLUSIVE",
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "CREATE TABLE t (key TEXT PRIMARY KEY, value BLOB)",
    ):
        connection.execute(statement)
    return (
        lambda key, value: connection.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, value)),
        lambda key: connection.execute("SELECT value FROM t WHERE key=?", (key,)).fetchone()[0],
    )


def bare_file(folder: Path) -> Pair:
    """A file that survives a crash."""

    def put(key: str, value: bytes) -> None:
        with open(folder / f"{key}.tmp", "wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        os.rename(folder / f"{key}.tmp", folder / key)
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    return put, lambda key: (folder / key).read_bytes()


def objects(folder: Path) -> Pair:
    """A folder of objects, behind the same handle as ours."""
    from weighbridge.leases.object_store import ObjectBucket

    store = ObjectBucket(f"file://{(folder / 'objects').resolve()}", mkdir=True).namespace("bench")
    return store.put, store.get


def ours(folder: Path) -> Pair:
    """The embedded store."""
    from weighbridge.leases.store import StoreFile

    store = StoreFile(folder / "store").namespace("bench")
    return store.put, store.get


def resident(name: str) -> int:
    """Bytes of a fresh interpreter that used one of the means, the median of three; none for an empty name."""
    command = [sys.executable, __file__, "--memory-of", name or "nothing"]
    runs = [subprocess.run(command, capture_output=True, check=True, text=True) for _ in range(3)]
    return statistics.median_low(int(run.stdout) for run in runs)


def memory(name: str) -> int:
    """Bytes that this process keeps resident after 100 puts."""
    import psutil
    import weighbridge_hookspecs  # noqa: F401 - what a host has anyway

    with tempfile.TemporaryDirectory() as folder:
        if name in MEANS:
            put, get = begin(name, Path(folder))
            for number in range(100):
                put(f"{number}", b"x" * 1000)
                get(f"{number}")
        return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    main()
