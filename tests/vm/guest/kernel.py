"""What the kernel itself says, read without any of our parts."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from .agent import Line

NODES = Path("/sys/devices/system/node")


def machine(line: Line) -> dict[str, Any]:
    """Nodes, disks and the balloon, as files say."""
    return {
        "release": platform.release(),
        "nodes": {path.name.removeprefix("node"): node(path) for path in NODES.glob("node[0-9]*")},
        "disks": {name: text(f"/sys/class/block/{name}/device/numa_node") for name in os.listdir("/sys/class/block")},
        "features": [text(path / "features") for path in balloons()],
        "reporting_order": text("/sys/module/page_reporting/parameters/page_reporting_order"),
    }


def node(path: Path) -> dict[str, Any]:
    """One node: KiB of memory, processors, row of distances."""
    total = next(row.split()[3] for row in (path / "meminfo").read_text().splitlines() if "MemTotal" in row)
    return {"kib": int(total), "cpus": text(path / "cpulist"), "distances": text(path / "distance")}


def balloons() -> list[Path]:
    """Devices of virtio's kind 5: include/uapi/linux/virtio_ids.h."""
    return [path for path in Path("/sys/bus/virtio/devices").glob("*") if text(path / "device") == "0x0005"]


def memory(line: Line | None = None) -> dict[str, int]:
    """``/proc/meminfo`` in bytes, with the balloon's pages from ``/proc/vmstat``."""
    rows = (row.split() for row in Path("/proc/meminfo").read_text().splitlines())
    counters = dict(row.split() for row in Path("/proc/vmstat").read_text().splitlines())
    pages = int(counters["balloon_inflate"]) - int(counters["balloon_deflate"])
    return {**{row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}, "Ballooned": pages * os.sysconf("SC_PAGE_SIZE")}


def fail(line: Line) -> None:
    """Raise."""
    raise RuntimeError("as asked")


def die(line: Line) -> None:
    """Be killed, as by the kernel when memory is out."""
    os.kill(os.getpid(), 9)


def text(path: str | Path) -> str | None:
    """A file's text; None where it is not."""
    try:
        return Path(path).read_text().strip().rstrip("\0")
    except OSError:
        return None
