"""Pressure that the kernel itself tells of: in control groups of both versions, one that goes, and to nobody."""

from __future__ import annotations

import logging
import mmap
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weighbridge_balloon.control import PressureControl
from weighbridge_balloon.settings import PressureSettings
from weighbridge_balloon.sources.choose import choose_sources
from weighbridge_balloon.sources.psi import ELEVATED, open_psi
from weighbridge_balloon.sources.source import SourceGone

from .agent import Line

MIB = 1 << 20
ROOT = Path("/")
GROUPS = Path("/sys/fs/cgroup")
DISK = Path("/dev/nvme0n1")
DISK_BYTES = 64 * MIB
NOBODY = 65534


def slowed_down(line: Line, cache_bytes: int, high_bytes: int, seconds: float) -> dict[str, Any]:
    """A cache in a group of version 2 whose limit is set below it, while somebody works on; what came of it."""
    with group_2("pressed") as group:
        control = PressureControl(PressureSettings(poll_seconds=0), log=logging.getLogger("guest"))
        cache = control.slab_cache(cache_bytes)
        for key in range(cache_bytes // MIB):
            cache.put(key, bytes([key % 255 + 1]) * (MIB - 4096))
        with watching(control) as names, working():
            (group / "memory.high").write_text(str(high_bytes))
            end = time.monotonic() + seconds
            while time.monotonic() < end and not (control.receipts() and current(group) < high_bytes):
                time.sleep(0.1)
        return {
            "sources": names,
            "receipts": [(one.reason, one.level, one.asked_bytes, one.believed_bytes) for one in control.receipts()],
            "current": current(group),
            "kept": len(cache),
        }


def reclaimed(line: Line, cache_bytes: int, limit_bytes: int, seconds: float) -> dict[str, Any]:
    """The same in a group of version 1, in which a disk is read again and again beside the cache."""
    with group_1("pressed", limit_bytes) as group:
        control = PressureControl(PressureSettings(poll_seconds=0, step_bytes=4 * MIB), log=logging.getLogger("guest"))
        cache = control.slab_cache(cache_bytes)
        for key in range(cache_bytes // MIB):
            cache.put(key, bytes([key % 255 + 1]) * (MIB - 4096))
        with watching(control) as names:
            end = time.monotonic() + seconds
            with DISK.open("rb") as file, mmap.mmap(file.fileno(), DISK_BYTES, prot=mmap.PROT_READ) as area:
                while not control.receipts() and time.monotonic() < end:
                    sum(area[start] for start in range(0, DISK_BYTES, mmap.PAGESIZE))
        return {
            "sources": names,
            "group": str(group),
            "events": control.statistics().events,
            "receipts": [(one.reason, one.level, one.asked_bytes, one.believed_bytes) for one in control.receipts()],
        }


def removed(line: Line) -> dict[str, Any]:
    """What a source says whose group is taken away."""
    (GROUPS / "cgroup.subtree_control").write_text("+memory")
    group = GROUPS / "passing"
    group.mkdir()
    source = open_psi(group / "memory.pressure", ELEVATED, "elevated")
    number = source.fileno()
    assert number is not None
    poller = select.poll()
    poller.register(number, source.mask)
    before = poller.poll(0)
    group.rmdir()
    events = poller.poll(10_000)
    try:
        said = str(source.look(events[0][1]))
    except SourceGone as gone:
        said = f"gone: {gone}"
    source.close()
    return {"before": before, "events": [mask for _, mask in events], "said": said}


def unprivileged(line: Line) -> dict[str, Any]:
    """Which sources there are for somebody who is not root, and why not."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    choice = choose_sources(ROOT, {})
    found = {"sources": [source.name for source in choice.sources], "notes": list(choice.notes)}
    choice.close()
    return found


@contextmanager
def watching(control: PressureControl) -> Iterator[list[str | None]]:
    """The driver's thread, and what it listens to."""
    assert control.open()
    names = [fact.finding for fact in control.facts() if fact.subject == "memory pressure"]
    thread = threading.Thread(target=control.run, args=(threading.Event(),))
    thread.start()
    try:
        yield names
    finally:
        control.close()
        thread.join()


@contextmanager
def group_2(name: str) -> Iterator[Path]:
    """A group of version 2 with this process in it."""
    (GROUPS / "cgroup.subtree_control").write_text("+memory")
    group = GROUPS / name
    group.mkdir()
    with inside(group, GROUPS):
        yield group


@contextmanager
def group_1(name: str, limit_bytes: int) -> Iterator[Path]:
    """A group of version 1 with this process in it: memory is counted there as long as version 2 does not."""
    top = Path("/tmp/memory")
    top.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "cgroup", "-o", "memory", "memory", str(top)], check=True)
    group = top / name
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
    with inside(group, top):
        yield group


@contextmanager
def inside(group: Path, outside: Path) -> Iterator[None]:
    """This process in a group, and out of it again."""
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (outside / "cgroup.procs").write_text(str(os.getpid()))


@contextmanager
def working() -> Iterator[None]:
    """Another process of this group that takes memory and drops it: above the limit it waits.

    In a process of its own, since who is made to wait by the kernel keeps Python's lock meanwhile.
    """
    code = f"while True: bytearray({4 * MIB})"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def current(group: Path) -> int:
    """Bytes in a group of version 2."""
    return int((group / "memory.current").read_text())
