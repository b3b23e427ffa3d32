"""A process with a big cache, while the hypervisor asks for most of the machine's memory."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from weighbridge import Host
from weighbridge_balloon.release import ReleaseReceipt
from weighbridge_balloon.slabs import SlabCache

from . import kernel
from .agent import Line

VALUE_BYTES = 64 * 1024


def with_plugin(line: Line, cache_bytes: int, seconds: float, settings: dict[str, Any]) -> dict[str, Any]:
    """The plugin watches, and the cache is one of its own; what it did, and what is left after its unload."""
    with Host(settings={"balloon": settings}) as host:
        host.load("balloon")
        driver = host.capabilities["balloon"]
        control = driver.pressure
        cache = control.slab_cache(cache_bytes)
        fill(cache, cache_bytes)
        reserve = control.statistics().reserve_bytes
        threads = [name for name in thread_names() if "balloon" in name]
        outcome = hold(
            line, cache, seconds, reserve=reserve, sees_target=control.look().figures.wanted_bytes is not None
        )
        receipts = [told(receipt) for receipt in control.receipts()]
        cache.release()
        del driver, control, cache
        receipt = host.unload("balloon")
        return {
            **outcome,
            "receipts": receipts,
            "threads": threads,
            "state": receipt.state,
            "survivors": len(receipt.survivors),
        }


def without_plugin(line: Line, cache_bytes: int, seconds: float) -> dict[str, Any]:
    """The same cache, and nobody who would have it release anything."""
    cache = SlabCache(cache_bytes)
    fill(cache, cache_bytes)
    return hold(line, cache, seconds)


def hold(line: Line, cache: SlabCache, seconds: float, **facts: object) -> dict[str, Any]:
    """Say that the cache is full, and wait until told to go on; what has become of it meanwhile."""
    kills = oom_kills()
    settle()
    line.event("holding", memory=kernel.memory(), filled=len(cache), **facts)
    if line.is_asked(seconds):
        line.receive()
    statistics = cache.statistics()
    return {
        "memory": kernel.memory(),
        "kills": oom_kills() - kills,
        "released": statistics.released_bytes,
        "kept": statistics.entries,
        "wrong": sum(cache.get(key) not in (None, value(key)) for key in range(statistics.puts)),
    }


def settle() -> None:
    """Until what is available stands still: filling has left the kernel's own lists in motion."""
    before = -1
    while abs((now := kernel.memory()["MemAvailable"]) - before) > 1 << 20:
        before = now
        time.sleep(0.5)


def fill(cache: SlabCache, nbytes: int) -> None:
    """Put values until the cache is full, none of them like another."""
    for key in range(nbytes // VALUE_BYTES):
        if not cache.put(key, value(key)):
            raise MemoryError(f"no room for value {key}")


def value(key: int) -> bytes:
    """The value of a key."""
    return random.Random(key).randbytes(64) * (VALUE_BYTES // 64)


def told(receipt: ReleaseReceipt) -> dict[str, Any]:
    """A receipt, for JSON."""
    names = ("asked_bytes", "missing_bytes", "believed_bytes", "freed_bytes", "available_bytes", "hypervisor_bytes")
    return {"reason": receipt.reason, "seconds": receipt.seconds, **{name: getattr(receipt, name) for name in names}}


def oom_kills() -> int:
    """How often the kernel has killed for lack of memory: ``oom_kill`` of ``/proc/vmstat``."""
    with open("/proc/vmstat", encoding="ascii") as file:
        return next(int(row.split()[1]) for row in file if row.startswith("oom_kill "))


def thread_names() -> list[str]:
    """Names of the threads of this process."""
    return [thread.name for thread in threading.enumerate()]
