"""What the cache, the gate and the bus cost, beside what one would take without them.

    python benchmarks/leases.py [--rounds 7] [--json]

The peers are cachetools with a lock around it, ``threading.BoundedSemaphore``, and a ``queue.Queue`` with one thread.
Their rounds alternate with ours in the same process; the figures are medians, and the ratio is ours to the peer's.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import queue
import statistics
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import cachetools

from weighbridge.leases.bus import MessageBus
from weighbridge.leases.cache import BoundedCache
from weighbridge.leases.gate import ConcurrencyGate

NUMBER = 20_000
ENTRIES = 1_000
Work = Callable[[], object]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [compare(name, ours, peer, options.rounds) for name, ours, peer in cases()]
    handovers, bytes_per_entry = share_of_waiters(), weigh_entries()
    if options.json:
        print(json.dumps({"rows": rows, "share": handovers, "entry": bytes_per_entry}, indent=2))
        return
    print(f"{'operation':<44}{'ours':>10}{'peer':>10}{'ratio':>8}")
    for row in rows:
        print(f"{row['name']:<44}{row['ours'] * 1e6:>7.2f} us{row['peer'] * 1e6:>7.2f} us{row['ratio']:>8.2f}")
    print("\nplaces taken in a row by one of 8 threads that come again at once, out of 4,000 (1 is fair)")
    for name, longest in handovers.items():
        print(f"{name:<44}{longest:>10}")
    print("\nbytes of bookkeeping for each entry, keys and values apart")
    for name, nbytes in bytes_per_entry.items():
        print(f"{name:<44}{nbytes:>10.0f}")


def compare(name: str, ours: Work, peer: Work, rounds: int) -> dict[str, Any]:
    """Median seconds of one operation, of both."""
    times: dict[Work, list[float]] = {ours: [], peer: []}
    for _ in range(rounds + 1):  # the first one warms up
        for work in (ours, peer):
            began = time.perf_counter()
            work()
            times[work].append((time.perf_counter() - began) / NUMBER)
    first, second = (statistics.median(times[work][1:]) for work in (ours, peer))
    return {"name": name, "ours": first, "peer": second, "ratio": first / second}


def cases() -> list[tuple[str, Work, Work]]:
    """Name, ours, and the peer's; each does the operation NUMBER times."""
    return [
        ("cache: get, found", *cache_gets()),
        ("cache: put that pushes out another one", *cache_puts()),
        ("gate: enter and leave, nobody waits", *free_gate()),
        ("gate: handed over among 8 threads, 2 places", *busy_gate()),
        ("bus: publish to one, and deliver", *one_subscriber()),
    ]


class LockedCache:
    """What cachetools needs in order to do what ours does: a lock."""

    def __init__(self) -> None:
        self.cache: cachetools.LRUCache[int, int] = cachetools.LRUCache(ENTRIES, getsizeof=lambda value: 1)
        self.lock = threading.Lock()

    def get(self, key: int) -> int | None:
        with self.lock:
            return self.cache.get(key)

    def put(self, key: int, value: int) -> None:
        with self.lock:
            self.cache[key] = value


def cache_gets() -> tuple[Work, Work]:
    ours, peer = BoundedCache(ENTRIES, ENTRIES), LockedCache()
    for key in range(ENTRIES):
        ours.put(key, key, nbytes=1)
        peer.put(key, key)

    def get_ours() -> None:
        for step in range(NUMBER):
            ours.get(step % ENTRIES)

    def get_peer() -> None:
        for step in range(NUMBER):
            peer.get(step % ENTRIES)

    return get_ours, get_peer


def cache_puts() -> tuple[Work, Work]:
    ours, peer = BoundedCache(ENTRIES, ENTRIES), LockedCache()

    def put_ours() -> None:
        for step in range(NUMBER):
            ours.put(step, step, nbytes=1)

    def put_peer() -> None:
        for step in range(NUMBER):
            peer.put(step, step)

    return put_ours, put_peer


def free_gate() -> tuple[Work, Work]:
    gate, semaphore = ConcurrencyGate(4), threading.BoundedSemaphore(4)

    def enter_ours() -> None:
        for _ in range(NUMBER):
            with gate.enter():
                pass

    def enter_peer() -> None:
        for _ in range(NUMBER):
            with semaphore:
                pass

    return enter_ours, enter_peer


def busy_gate() -> tuple[Work, Work]:
    gate, semaphore = ConcurrencyGate(2), threading.BoundedSemaphore(2)

    def enter_ours() -> None:
        for _ in range(NUMBER // 8):
            with gate.enter():
                time.sleep(0)  # as work that lets another thread run

    def enter_peer() -> None:
        for _ in range(NUMBER // 8):
            with semaphore:
                time.sleep(0)

    return lambda: in_threads(enter_ours), lambda: in_threads(enter_peer)


def one_subscriber() -> tuple[Work, Work]:
    bus, jobs = MessageBus(), queue.Queue[int | None](NUMBER)
    done, received = threading.Event(), list[int]()

    def receive(number: int) -> None:
        received.append(number)
        if number == NUMBER - 1:
            done.set()

    def work() -> None:
        while (number := jobs.get()) is not None:
            receive(number)

    def publish() -> None:
        lease = bus.subscribe("topic", receive, max_pending=NUMBER)
        for number in range(NUMBER):
            bus.publish("topic", number)
        finish()
        lease.release()

    def put() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        for number in range(NUMBER):
            jobs.put(number)
        finish()
        jobs.put(None)
        thread.join()

    def finish() -> None:
        done.wait()
        done.clear()
        assert len(received) == NUMBER
        received.clear()

    return publish, put


def in_threads(work: Work) -> None:
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def share_of_waiters() -> dict[str, int]:
    """The longest run of places that one thread took while seven others were waiting."""
    gate, semaphore = ConcurrencyGate(1), threading.BoundedSemaphore(1)
    return {"gate": longest_run(gate.enter), "threading.BoundedSemaphore": longest_run(lambda: semaphore)}


def longest_run(enter: Callable[[], Any]) -> int:
    order: list[int] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        while len(order) < 4_000:
            with enter():
                if not order:
                    time.sleep(0.2)  # until the seven others are waiting
                order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(len(list(run)) for _, run in itertools.groupby(order[:4_000]))


def weigh_entries() -> dict[str, float]:
    """Traced bytes of a full cache, less those of its keys and values, which were there before."""
    keys = [str(number) for number in range(20_000)]

    def fill_ours() -> object:
        cache = BoundedCache(len(keys), len(keys))
        for key in keys:
            cache.put(key, key, nbytes=1)
        return cache

    def fill_peer() -> object:
        cache: cachetools.LRUCache[str, str] = cachetools.LRUCache(len(keys), getsizeof=lambda value: 1)
        for key in keys:
            cache[key] = key
        return cache

    return {name: traced(fill) / len(keys) for name, fill in (("ours", fill_ours), ("cachetools", fill_peer))}


def traced(fill: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        kept = fill()
        nbytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    del kept
    return nbytes


if __name__ == "__main__":
    main()
