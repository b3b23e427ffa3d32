"""Resident bytes of a process that imports pluggy, and of one that imports weighbridge and discovers.

    python benchmarks/footprint.py [--rounds 9] [--json]

Each figure is the median over fresh interpreters, taken from the process itself (``/proc/self/statm``, or psutil) at
the end of what the row says. The goal is at most 8 MiB more than pluggy alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

MIB = 1024 * 1024

ROWS = {
    "an interpreter alone": "",
    "import pluggy": "import pluggy",
    "import weighbridge": "import weighbridge",
    "the scan of entry points": "from weighbridge.discovery.entry_points import scan; scan(('weighbridge',))",
    "Host().discover()": "from weighbridge import Host; host = Host(); host.discover()",
    "Host('1 GiB').load('lantern')": "from weighbridge import Host; host = Host('1 GiB'); host.load('lantern')",
    "the same, meter='process'": (
        "from weighbridge import Host; host = Host('1 GiB', meter='process'); host.load('lantern')"
    ),
}
_REPORT = """
try:
    with open("/proc/self/statm") as statm:
        import resource
        resident = int(statm.read().split()[1]) * resource.getpagesize()
except OSError:
    import psutil
    resident = psutil.Process().memory_info().rss
print(resident)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    taken: dict[str, list[int]] = {row: [] for row in ROWS}
    for _ in range(options.rounds):
        for row, code in ROWS.items():
            taken[row].append(resident_bytes(code))
    figures = {row: int(statistics.median(sizes)) for row, sizes in taken.items()}
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    pluggy = figures["import pluggy"]
    print(f"{'process':<34} {'MiB':>6} {'more than pluggy':>17}")
    for row, size in figures.items():
        print(f"{row:<34} {size / MIB:>6.1f} {(size - pluggy) / MIB:>+13.1f} MiB")


def resident_bytes(code: str) -> int:
    """Resident bytes of a fresh interpreter after it ran `code`."""
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", code + _REPORT]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


if __name__ == "__main__":
    main()
