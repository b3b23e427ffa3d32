"""What a decision costs: admission with 0, 10 and 50 plugins loaded, and a hook call with and without the host.

    python benchmarks/admission.py [--rounds 15] [--json]

Interleaved rounds in one process. The decision is measured on a request that is admitted and on one that is refused for
want of room (without the search for room, which collects garbage and asks plugins), and apart from what a policy itself
spends: a policy that answers at once is the last row, because policies run in a thread of their own for their deadline.
The hook call is one application hook with one implementation, called through ``host.hook`` and through a bare
``pluggy.PluginManager``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pluggy
from weighbridge_hookspecs import Admitted, Refused, Verdict, hookimpl, hookspec

from weighbridge import Host, Weights
from weighbridge.fabricate import write_distribution

_SOURCE = """
from weighbridge_hookspecs import hookimpl

class Plugin:
    def __init__(self, context):
        self.context = context

    @hookimpl
    def greet(self, name):
        return name
"""
_MANIFEST = """
[plugin]
summary = "a small plugin"
[memory]
load = "64 KiB"
peak = "128 KiB"
"""
_CALLS = 200


class Application:
    """The application's own hook."""

    @hookspec
    def greet(self, name: str) -> str:
        """Greet somebody."""
        return name


class Policy:
    """Answers at once."""

    @hookimpl
    def weighbridge_admit(self) -> Verdict | None:
        """No objection."""
        return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.rounds)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    direct = figures["hook call, bare pluggy"]
    print(f"{'case':<44} {'us':>8} {'of a bare hook call':>20}")
    for case, microseconds in figures.items():
        print(f"{case:<44} {microseconds:>8.2f} {microseconds / direct:>19.1f}x")


def measure(folder: Path, rounds: int) -> dict[str, float]:
    """Microseconds for each case: the median over rounds of the mean of a batch of calls."""
    for index in range(51):
        write_distribution(folder, f"plugin{index:02}", _SOURCE, manifest=_MANIFEST)
    sys.path.append(str(folder))
    cases: dict[str, Callable[[], object]] = {}
    hosts = []
    for count in (0, 10, 50):
        host = _host(folder)
        host.load_all([f"plugin{index:02}" for index in range(count)])
        assert isinstance(host.ask("plugin50"), Admitted)
        cases[f"admitted, {count} plugins loaded"] = partial(host.ask, "plugin50")
        hosts.append(host)
    full = _host(folder, ceiling=1)
    assert isinstance(full.ask("plugin50"), Refused)
    cases["refused"] = partial(full.ask, "plugin50")
    ruled = _host(folder)
    ruled.register("policy", Policy())
    cases["admitted, with a policy that answers at once"] = partial(ruled.ask, "plugin50")
    cases |= _hook_calls(folder)
    taken: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, call in cases.items():
            began = time.perf_counter()
            for _ in range(_CALLS):
                call()
            taken[case].append((time.perf_counter() - began) / _CALLS * 1e6)
    for host in (*hosts, full, ruled):
        host.close()
    return {case: statistics.median(figures) for case, figures in taken.items()}


def _host(folder: Path, ceiling: int | str = "1 GiB") -> Host:
    host = Host(ceiling, path=[str(folder)], meter="process", weights=Weights(folder / "weights"))
    host.add_hookspecs(Application)
    return host


def _hook_calls(folder: Path) -> dict[str, Callable[[], object]]:
    host = _host(folder)
    host.load("plugin50")
    bare = pluggy.PluginManager("weighbridge")
    bare.add_hookspecs(Application)
    namespace: dict[str, type] = {}
    exec(_SOURCE, namespace)
    bare.register(namespace["Plugin"](SimpleNamespace()))
    return {
        "hook call, bare pluggy": lambda: bare.hook.greet(name="x"),
        "hook call, through the host": lambda: host.hook.greet(name="x"),
    }


if __name__ == "__main__":
    main()
