"""The application: a measuring station. It runs in a process of its own, whose address space is capped.

``edge.py`` starts it, once for each way to run it, and reads the figures that it prints.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import sys
import threading
import time
import tracemalloc
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from weighbridge_hookspecs import hookspec

if TYPE_CHECKING:
    from weighbridge import Host, HostStatistics, MemorySettings, Receipt

READING_BYTES: Final = 64 * 1024
SLOTS: Final = 1024
THREADS: Final = 4
WARM_UP: Final = 300
"""Readings, in whole rounds of all threads. They fill the index and import what is imported on first use."""
LOOK_EVERY: Final = 16
"""Rounds between two looks at the memory. In each fourth a reading is kept, so four threads take 1 MiB."""
KEEP_BYTES: Final = 128 * 1024 * 1024
"""What the reader may keep at hand: more than there is, so that it is the host that keeps it within bounds."""
STACK_BYTES: Final = 256 * 1024
START_SECONDS: Final = 60
LEAST_OPERATIONS_PER_SECOND: Final = 100
"""A process that is slower is taken for one that hangs; usual are 10,000."""


class Hooks:
    """What the station asks of its plugins."""

    @hookspec(firstresult=True)
    def write_reading(self, number: int) -> int | None:
        """Take a reading and store it under `number`; its checksum."""

    @hookspec(firstresult=True)
    def read_reading(self, number: int, keep: bool) -> int | None:
        """The checksum of a stored reading, read again; `keep` if it will soon be asked for once more."""

    @hookspec(firstresult=True)
    def find_checksum(self, number: int) -> int | None:
        """The checksum that was noted when it was written."""

    @hookspec
    def tell_all(self) -> None:
        """Tell others now what is to be told, without waiting for more of it."""


# -- the work ------------------------------------------------------------------------------------------------------


class Workload:
    """Several threads that write readings and read them back, and compare."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._failed = threading.Event()
        self._looking = threading.Lock()

    def run(self, numbers: range) -> int:
        """Two operations for each number; how many readings were not what had been written.

        What a thread raises ends them all, and is raised.
        """
        with ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(self._guarded, numbers[thread::THREADS]) for thread in range(THREADS)]
        return sum(future.result() for future in futures)

    def _guarded(self, numbers: range) -> int:
        try:
            return self._work(numbers)
        except BaseException:
            self._failed.set()
            raise

    def _work(self, numbers: range) -> int:
        hook, written, wrong = self._host.hook, array("I", bytes(4 * len(numbers))), 0
        for at, number in enumerate(numbers):
            if self._failed.is_set():
                break
            written[at] = hook.write_reading(number=number)
            wanted = at - 33 if at % 4 == 1 and at > 33 else at  # now and then one of earlier, which was kept
            checksum = hook.read_reading(number=numbers[wanted], keep=wanted % 4 == 0)
            wrong += checksum != written[wanted]
            if at % LOOK_EVERY == 0:
                self._look()
        return wrong

    def _look(self) -> None:
        """Have the host look at the memory, and make room if need be.

        It does so every few seconds by itself, but here a second is enough to take all that there is. While one thread
        is at it the others soon come here, too, and wait: so it is known how much they can take in the meantime.
        """
        with self._looking:
            self._host.check_memory()


def lost_checksums(host: Host, numbers: range) -> int:
    """How many readings the index does not know. The bus delivers later, so it is waited for."""
    settle(host)
    return sum(host.hook.find_checksum(number=number) is None for number in numbers)


def settle(host: Host) -> None:
    """Wait until every message was published and delivered."""
    host.hook.tell_all()
    while (bus := host.statistics().services.bus) is not None and bus.pending + bus.delivering:
        time.sleep(0.01)


# -- the host ------------------------------------------------------------------------------------------------------


def memory_settings(way: str) -> MemorySettings:
    """The pool under the ceiling; the ceiling without the pool; neither."""
    from weighbridge import MemorySettings

    if way == "unbounded":
        return MemorySettings()
    # A quarter is left for what comes in between two looks, and for address space that is not resident: code of
    # libraries that was never used, stacks of threads, holes in the heap. The station looks by itself, and a look that
    # comes while the timer has one under way does nothing.
    bounded = MemorySettings(enabled=True, pressure_threshold=0.75, check_seconds=3600)
    return bounded if way == "pool" else attrs.evolve(bounded, pool_max_array_bytes=0)


@contextmanager
def station(options: argparse.Namespace, keep_bytes: int) -> Iterator[Host]:
    """A host with the four plugins."""
    from weighbridge import Host

    shape = {"file": str(options.folder / "readings"), "reading_bytes": READING_BYTES, "slots": SLOTS}
    with Host(
        None if options.way == "unbounded" else options.ceiling,
        path=[str(options.site)],
        store=options.folder / "store.sqlite3",
        settings={"recorder": shape, "reader": shape | {"keep_bytes": keep_bytes}},
        memory=memory_settings(options.way),
        meter="process",  # tracing would be measured with the rest
    ) as host:
        host.add_hookspecs(Hooks)
        host.load_all(strict=True)
        yield host


def unload_all(host: Host) -> list[Receipt]:
    """Unload all four, the last loaded first."""
    names = [one.name for one in host.plugins()]
    return [host.unload(name) for name in sorted(names, key=["dispatcher", "index", "reader", "recorder"].index)]


# -- the figures ---------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the workload; what it took."""
    hot = range(WARM_UP, WARM_UP + options.operations // 2)
    with station(options, KEEP_BYTES) as host:
        work = Workload(host)
        work.run(range(WARM_UP))
        before, collections = host.statistics(), gc.get_stats()[2]["collections"]
        began, began_processor = time.perf_counter(), time.process_time()
        wrong = work.run(hot)
        seconds, processor = time.perf_counter() - began, time.process_time() - began_processor
        collections = gc.get_stats()[2]["collections"] - collections
        after = host.statistics()
        lost = lost_checksums(host, range(hot.stop))
        receipts = unload_all(host)
        left = buffer_figures(host.statistics())["bytes"]
    return {
        "operations": 2 * len(hot),
        "seconds": seconds,
        "processor_seconds": processor,
        "full_collections": collections,
        "blocks": buffer_figures(after)["blocks"] - buffer_figures(before)["blocks"],
        "refusals": buffer_figures(after)["refusals"],
        "reactions": after.memory.reactions if after.memory else 0,
        "wrong_checksums": wrong,
        "lost_checksums": lost,
        "left_bytes": left,
        "receipts": [receipt_figures(receipt) for receipt in receipts],
        **peaks(),
    }


def trace(options: argparse.Namespace) -> dict[str, Any]:
    """Run the workload under tracemalloc; the bytes that it left allocated, per operation."""
    hot = range(WARM_UP, WARM_UP + options.operations // 2)
    # The reader keeps next to nothing here, or the measure would be of what it happens to keep at the end.
    with station(options, READING_BYTES) as host:
        work = Workload(host)
        tracemalloc.start()
        work.run(range(WARM_UP))
        settle(host)
        before = traced_bytes(host)
        work.run(hot)
        settle(host)
        after = traced_bytes(host)
        tracemalloc.stop()
        unload_all(host)
    return {"operations": 2 * len(hot), "traced_bytes_each": (after - before) / (2 * len(hot))}


def traced_bytes(host: Host) -> int:
    """What Python has allocated, but for blocks of buffers: those have an account, and their number is bounded."""
    return tracemalloc.get_traced_memory()[0] - buffer_figures(host.statistics())["bytes"]


def buffer_figures(statistics: HostStatistics) -> dict[str, int]:
    """Of all plugins together: bytes on the account now, blocks that were ever allocated, rents that were refused."""
    buffers = statistics.services.buffers
    assert buffers is not None  # two plugins have pools
    return {"bytes": buffers.used_bytes, "blocks": buffers.charges, "refusals": buffers.refusals}


def receipt_figures(receipt: Receipt) -> dict[str, Any]:
    """Of one plugin that was unloaded."""
    return {
        "plugin": receipt.plugin,
        "state": receipt.state,
        "watched": receipt.watched,
        "survivors": [f"{one.kind} {one.name}: {one.tie}" for one in receipt.survivors],
        "leases": dict(receipt.leases_revoked),
        "failures": list(receipt.failures),
    }


def peaks() -> dict[str, int | None]:
    """The most bytes that this process had resident, and of address space.

    ``ru_maxrss`` begins with what the parent had resident when it started this process, so Linux is asked elsewhere:
    https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
    """
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii") as file:
            status = dict(line.split(":", 1) for line in file)
        return {
            "peak_resident_bytes": int(status["VmHWM"].split()[0]) * 1024,
            "peak_address_bytes": int(status["VmPeak"].split()[0]) * 1024,
        }
    if sys.platform == "win32":
        import psutil

        return {"peak_resident_bytes": psutil.Process().memory_info().peak_wset, "peak_address_bytes": None}
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_resident_bytes": peak if sys.platform == "darwin" else peak * 1024, "peak_address_bytes": None}


# -- the process ---------------------------------------------------------------------------------------------------


def cap_address_space(nbytes: int) -> None:
    """From here on an allocation beyond `nbytes` fails; what is mapped already counts."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (nbytes, nbytes))


def main() -> None:
    """Print the figures of one way to run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=("pool", "plain", "unbounded"), required=True)
    parser.add_argument("--operations", type=int, required=True)
    parser.add_argument("--ceiling", type=int, required=True)
    parser.add_argument("--address-space", type=int)
    parser.add_argument("--site", type=Path, required=True, help="where the plugins are installed")
    parser.add_argument("--folder", type=Path, required=True, help="an empty one, for readings and store")
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    if options.address_space:
        cap_address_space(options.address_space)
    threading.stack_size(STACK_BYTES)  # by default it is 8 MiB of address space for each thread
    # A process without memory may hang: Thread.start waits for a thread that could not even begin.
    faulthandler.dump_traceback_later(START_SECONDS + options.operations / LEAST_OPERATIONS_PER_SECOND, exit=True)
    sys.path.insert(0, str(options.site))
    print(json.dumps(trace(options) if options.trace else measure(options)))


if __name__ == "__main__":
    main()
