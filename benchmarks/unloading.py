"""What an unload costs, step by step, and how that grows with the live objects of the process.

    python benchmarks/unloading.py [--rounds 5] [--json]

A plugin with 10,000 objects is loaded and unloaded in processes that hold nothing else, and 10 thousand, 100 thousand
and a million objects of the application. Goals: under 200 ms with nothing else, and no more than linear growth. The
peer is ``gc.collect()`` in the same process, which every proof has to pay at least once.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIVE = (0, 10_000, 100_000, 1_000_000)
SOURCE = """
class Load:
    def __init__(self):
        self.next = [self]

class Plugin:
    def __init__(self, context):
        self.loads = [Load() for _ in range(5_000)]  # each with a list
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(unload(options.one)))
        return
    rows = []
    for live in LIVE:
        runs = [run(live) for _ in range(options.rounds)]
        rows.append({"live": live} | {name: statistics.median(one[name] for one in runs) for name in runs[0]})
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    steps = [name for name in rows[0] if name not in ("live", "tracked", "total", "collection")]
    print(f"{'live objects':>12} {'total':>8} {'of a gc.collect':>16}  {'  '.join(f'{step:>10}' for step in steps)}")
    for row in rows:
        parts = "  ".join(f"{row[step] * 1000:>7.1f} ms" for step in steps)
        ratio = row["total"] / row["collection"]
        print(f"{row['tracked']:>12,.0f} {row['total'] * 1000:>5.0f} ms {ratio:>15.1f}x  {parts}")
    first, last = rows[1], rows[-1]
    growth = (last["total"] - first["total"]) / (last["tracked"] - first["tracked"]) * 1e6
    print(f"each million live objects more: {growth * 1000:.0f} ms")


def run(live: int) -> dict[str, float]:
    """One unload in a fresh interpreter."""
    command = [sys.executable, __file__, "--one", str(live)]
    content: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return content


def unload(live: int) -> dict[str, float]:
    """Seconds of every step."""
    from weighbridge.fabricate import write_distribution
    from weighbridge.host import Host

    application: list[Any] = [[number] for number in range(live)]
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        write_distribution(Path(folder), "load", SOURCE)
        with Host(meter="process") as host:
            host.load("load")
            began = time.perf_counter()
            gc.collect()
            collection = time.perf_counter() - began
            tracked = len(gc.get_objects())
            began = time.perf_counter()
            receipt = host.unload("load")
            total = time.perf_counter() - began
    assert receipt.state == "unloaded", receipt.survivors
    assert len(application) == live
    steps = {step.name: step.seconds for step in receipt.steps}
    return {"tracked": tracked, "total": total, "collection": collection, **steps}


if __name__ == "__main__":
    main()
