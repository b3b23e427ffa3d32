"""What it costs to contain the faults of plugins: hook calls in which nobody fails, and in which one of ten does.

    python benchmarks/containment.py [--rounds 30] [--json]

Interleaved rounds in one process. The same plugins are called through a bare ``pluggy.PluginManager``, through a host
that lets faults end the call, and through one that contains them. The goal is a ratio of 1.0 where nobody fails. A
fault is formatted and logged (to a handler that drops it), which is what the last row costs: it has nothing to be
compared with, for the others would end at the fault.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pluggy
from weighbridge_hookspecs import hookimpl, hookspec

from weighbridge import Host, Weights
from weighbridge.fabricate import write_distribution

_SOURCE: Final = """
from weighbridge_hookspecs import hookimpl

class Plugin:
    def __init__(self, context):
        self.context = context

    @hookimpl
    def greet(self, name):
        return name

    @hookimpl
    def wrapped(self, name):
        return name
"""
_FAILING: Final = """
from weighbridge_hookspecs import hookimpl

class Plugin:
    def __init__(self, context):
        self.context = context

    @hookimpl
    def greet(self, name):
        raise ValueError(name)
"""
_BARE: Final = "bare pluggy"
_CALLS: Final = 300


class Application:
    """The application's own hooks."""

    @hookspec
    def greet(self, name: str) -> str:
        """Greet somebody."""
        return name

    @hookspec
    def wrapped(self, name: str) -> str:
        """Greet somebody, with wrappers around it."""
        return name


class Wrapper:
    """Passes the results on."""

    @hookimpl(wrapper=True)
    def wrapped(self):  # type: ignore[no-untyped-def]  # as authors write it
        """Nothing is changed."""
        return (yield)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    log = logging.getLogger("weighbridge")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.rounds)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"{'hook call':<42} {_BARE:>14} {'host, raise':>14} {'host, contain':>14}")
    for case, row in figures.items():
        bare = row.get(_BARE)
        cells = [_cell(row.get(way), bare) for way in (_BARE, "raise", "contain")]
        print(f"{case:<42} {cells[0]:>14} {cells[1]:>14} {cells[2]:>14}")


def _cell(microseconds: float | None, bare: float | None) -> str:
    if microseconds is None:
        return "ends at it"
    return f"{microseconds / bare:.2f}" if bare else f"{microseconds:.1f} us"


def measure(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds for each case and each way to call: the median over rounds of the mean of a batch of calls."""
    for index in range(10):
        write_distribution(folder, f"plugin{index}", _SOURCE)
    write_distribution(folder, "failing", _FAILING)
    sys.path.append(str(folder))
    hosts: list[Host] = []
    cases: dict[str, dict[str, Callable[[], object]]] = {}
    for count in (1, 10):
        names = [f"plugin{index}" for index in range(count)]
        ways: dict[str, pluggy.HookRelay] = {_BARE: _bare(names)}
        for policy in ("raise", "contain"):
            hosts.append(_host(folder, policy, names))
            ways[policy] = hosts[-1].hook
        kind = "1 plugin" if count == 1 else f"{count} plugins"
        cases[kind] = {way: partial(relay.greet, name="x") for way, relay in ways.items()}
        cases[f"{kind} and a wrapper"] = {way: partial(relay.wrapped, name="x") for way, relay in ways.items()}
    hosts.append(_host(folder, "contain", [*(f"plugin{index}" for index in range(9)), "failing"]))
    assert hosts[-1].hook.greet(name="x") == ["x"] * 9
    cases["10 plugins, one of which fails"] = {"contain": partial(hosts[-1].hook.greet, name="x")}
    figures = _measured(cases, rounds)
    for host in hosts:
        host.close()
    return figures


def _measured(cases: dict[str, dict[str, Callable[[], object]]], rounds: int) -> dict[str, dict[str, float]]:
    taken: dict[str, dict[str, list[float]]] = {case: {way: [] for way in ways} for case, ways in cases.items()}
    for number in range(rounds):
        for case, ways in cases.items():
            order = list(ways.items())
            for way, call in order if number % 2 else reversed(order):
                began = time.perf_counter()
                for _ in range(_CALLS):
                    call()
                taken[case][way].append((time.perf_counter() - began) / _CALLS * 1e6)
    return {case: {way: statistics.median(of) for way, of in ways.items()} for case, ways in taken.items()}


def _host(folder: Path, policy: str, names: list[str]) -> Host:
    host = Host(
        path=[str(folder)],
        meter="process",
        weights=Weights(folder / "weights"),
        on_hook_error="contain" if policy == "contain" else "raise",
        hook_error_limit=10**9,  # or the one that fails would not be called any more
    )
    host.add_hookspecs(Application)
    host.register("wrapper", Wrapper())
    host.load_all(names)
    return host


def _bare(names: list[str]) -> pluggy.HookRelay:
    manager = pluggy.PluginManager("weighbridge")
    manager.add_hookspecs(Application)
    manager.register(Wrapper())
    namespace: dict[str, type] = {}
    exec(_SOURCE, namespace)
    for name in names:
        manager.register(namespace["Plugin"](SimpleNamespace()), name)
    return manager.hook


if __name__ == "__main__":
    main()
