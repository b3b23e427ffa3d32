"""What a durable append costs, and what a shared fsync saves when several threads append at once.

    python benchmarks/journal.py [--rounds 5] [--records 300] [--folder FOLDER] [--json]

Each thread appends records of 200 bytes, and every one is durable before the next. Baseline is a file with a lock, a
write and an fdatasync for each record; the peer is a table of sqlite3 in WAL mode with ``synchronous=FULL``, a
transaction for each record. Goals: one thread at most 1.2x the baseline's time, eight threads at least three times as
fast as it, and what nobody waits for at least twenty times. `--folder` has to be on the disk that is meant: in memory,
an fsync costs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from weighbridge.leases.journal import Journal
from weighbridge.leases.replay import read_journal

PAYLOAD = bytes(range(200))
THREADS = (1, 2, 4, 8, 16)
Append: TypeAlias = Callable[[], object]
sync = getattr(os, "fdatasync", os.fsync)


@contextmanager
def plain(folder: Path) -> Iterator[Append]:
    """The baseline: a lock, a checksum, a write and a sync for each record."""
    lock = threading.Lock()
    with open(folder / "plain", "wb", buffering=0) as file:

        def append() -> None:
            with lock:
                file.write(zlib.crc32(PAYLOAD).to_bytes(4, "little") + PAYLOAD)
                sync(file.fileno())

        yield append


@contextmanager
def table(folder: Path) -> Iterator[Append]:
    """The peer: one connection behind a lock, a transaction for each record."""
    lock = threading.Lock()
    connection = sqlite3.connect(folder / "table", check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE record (sequence INTEGER PRIMARY KEY, payload BLOB)")

    def append() -> None:
        with lock:
            connection.execute("INSERT INTO record (payload) VALUES (?)", (PAYLOAD,))

    yield append
    connection.close()


@contextmanager
def journal(folder: Path) -> Iterator[Append]:
    """Ours, waiting for every record."""
    with Journal(folder / "journal") as opened:
        yield lambda: opened.append(PAYLOAD)


@contextmanager
def behind(folder: Path) -> Iterator[Append]:
    """Ours, waiting for none but at the end for all."""
    with Journal(folder / "behind") as opened:
        yield lambda: opened.append(PAYLOAD, wait=False)


WAYS = {"a sync for each": plain, "sqlite3 WAL FULL": table, "journal": journal, "journal, wait=False": behind}


def seconds(way: str, threads: int, records: int, parent: Path | None) -> float:
    """Seconds for each record, the last one durable."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        began = 0.0
        with WAYS[way](Path(folder)) as append:

            def work() -> None:
                for _ in range(records // threads):
                    append()

            append()
            workers = [threading.Thread(target=work) for _ in range(threads)]
            began = time.perf_counter()
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        return (time.perf_counter() - began) / (records // threads * threads)


def replaying(parent: Path | None) -> tuple[float, float]:
    """Seconds to replay 64 MiB in records of 4 KiB, and to read the same files and checksum them in one go."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        with Journal(folder) as opened:
            for _ in range(64 * 256):
                opened.append(PAYLOAD * 20, wait=False)
        read_journal(folder)
        began = time.perf_counter()
        result = read_journal(folder, lambda sequence, payload: None)
        ours = time.perf_counter() - began
        assert result.is_whole
        assert result.records == 64 * 256
        began = time.perf_counter()
        for path in Path(folder).glob("*.wal"):
            zlib.crc32(path.read_bytes())
        return ours, time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=300)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for threads in THREADS:
        runs: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:  # interleaved: the disk is shared with others
                runs[way].append(seconds(way, threads, options.records, options.folder))
        rows.append({"threads": threads, **{way: statistics.median(times) for way, times in runs.items()}})
    ours, raw = map(statistics.median, zip(*(replaying(options.folder) for _ in range(options.rounds)), strict=True))
    if options.json:
        print(json.dumps({"rows": rows, "replay": ours, "read": raw}, indent=2))
        return
    print(
        f"Python {sys.version.split()[0]}, {options.records} records of {len(PAYLOAD)} bytes, {options.rounds} rounds"
    )
    print("records in the time that a sync for each takes for one")
    print(f"{'threads':>7} {'a sync for each':>18}" + "".join(f"{way:>22}" for way in list(WAYS)[1:]))
    for row in rows:
        base = row["a sync for each"]
        ratios = "".join(f"{base / row[way]:>21.2f}x" for way in list(WAYS)[1:])
        print(f"{row['threads']:>7} {base * 1e6:>15.0f} us{ratios}")
    print(f"replay of 64 MiB: {ours / raw:.1f}x of reading the files and a checksum over each")


if __name__ == "__main__":
    main()
