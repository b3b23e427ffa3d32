"""Four plugins under a ceiling of 64 MiB, in processes that cannot take more: 10,000 reads and writes of 64 KiB.

    python examples/edge.py [--operations 10000] [--ceiling "64 MiB"] [--json]

The application is edge/station.py; its plugins lie beside it. It runs three ways, each in a process of its own:

    pool       under the ceiling, with buffers rented from a pool
    plain      under the ceiling, with the pool disabled: each buffer is allocated
    unbounded  without a ceiling, as a program without Weighbridge's bounds

The address space of the first two is capped at the ceiling (RLIMIT_AS), so that the system, and not Weighbridge, would
end a process that takes more: what is resident is a part of the address space. At last the unbounded one is run under
that cap as well, where it must not survive. Nothing is disabled for the figures: the garbage collector runs as always.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs

from weighbridge import format_bytes, parse_bytes
from weighbridge.fabricate import write_distribution

PLUGINS: Final = ("recorder", "reader", "index", "dispatcher")
SOURCES: Final = Path(__file__).resolve().parent / "edge"
BOUNDED: Final = ("pool", "plain")
WAYS: Final = (*BOUNDED, "unbounded")
TRACED_OPERATIONS: Final = 2000
TRACED_GOAL_BYTES: Final = 64
IS_CAPPED: Final = sys.platform == "linux"
"""Elsewhere RLIMIT_AS is not there (Windows), or the system does not keep to it (macOS)."""

Figures = dict[str, Any]
_FRAME: Final = re.compile(r' +File "(?P<file>.+)", line \d+, in (?P<function>.+)')


@attrs.frozen(kw_only=True)
class Plan:
    """What to run."""

    operations: int
    ceiling: int
    cap: int | None
    """Of the address space, in bytes; None for no cap."""


@attrs.frozen
class Death:
    """How a process ended that has no figures to show."""

    cause: str
    last_words: str

    def __str__(self) -> str:
        return f"{self.cause}: {self.last_words}"


# -- running -------------------------------------------------------------------------------------------------------


def install_plugins(site: Path) -> None:
    """Make a distribution of each, as an installer would leave it."""
    for name in PLUGINS:
        source = (SOURCES / f"{name}.py").read_text(encoding="utf-8")
        manifest = (SOURCES / f"{name}.toml").read_text(encoding="utf-8")
        write_distribution(site, name, source, attribute=name.title(), manifest=manifest)


def run(site: Path, way: str, plan: Plan, cap: int | None, *, trace: bool = False) -> Figures | Death:
    """One run of the station in a fresh process."""
    with tempfile.TemporaryDirectory(prefix=f"{way}-", dir=site.parent) as folder:
        command = [sys.executable, str(SOURCES / "station.py"), "--way", way, "--site", str(site), "--folder", folder]
        command += ["--ceiling", str(plan.ceiling)]
        command += ["--operations", str(TRACED_OPERATIONS if trace else plan.operations)]
        command += ["--trace"] if trace else []
        command += ["--address-space", str(cap)] if cap else []
        code, output, errors = finish(command, environment(folder))
    return dict(json.loads(output)) if code == 0 else Death(cause_of_death(code), last_words(errors))


def finish(command: list[str], variables: dict[str, str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a process. It never outlives this call, however that ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=variables, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, encoding="utf-8"
    ) as process:
        try:
            output, errors = process.communicate()
        except BaseException:
            process.kill()
            process.wait()
            raise
    return process.returncode, output, errors


def environment(folder: str) -> dict[str, str]:
    """Without the operator's settings for Weighbridge, and sparing address space that nobody uses.

    The C library reserves 64 MiB of it for the heap of each thread, unless they share one (M_ARENA_MAX in
    https://man7.org/linux/man-pages/man3/mallopt.3.html). For most locales it maps the archive of them all, and none
    for C: https://man7.org/linux/man-pages/man1/localedef.1.html
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    sparing = {"MALLOC_ARENA_MAX": "1", "LC_ALL": "C.UTF-8"}
    return kept | sparing | {"WEIGHBRIDGE_CACHE": folder, "PYTHONDONTWRITEBYTECODE": "1"}


def cause_of_death(code: int) -> str:
    """What the exit code of a process says."""
    if code > 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def last_words(errors: str) -> str:
    """The first exception of a traceback, and where it was raised: others may only follow from it."""
    place = ""
    for line in errors.splitlines():
        if match := _FRAME.match(line):
            place = f" in {match['function']}, {Path(match['file']).parent.name}/{Path(match['file']).name}"
        elif place and line[:1].strip():
            return line + place
        elif line.startswith("Timeout ("):  # of faulthandler, in the station
            return f"it hung. {line}"
    return next((line for line in reversed(errors.splitlines()) if line.strip()), "it said nothing")


def run_all(plan: Plan) -> Figures:
    """Every run; figures, or how it ended, by its name."""
    with tempfile.TemporaryDirectory(prefix="weighbridge-edge-") as folder:
        site = Path(folder, "site")
        install_plugins(site)
        runs: Figures = {}
        for way in WAYS:
            cap = plan.cap if way in BOUNDED else None
            figures = run(site, way, plan, cap)
            if isinstance(figures, Death):
                return {"runs": runs | {way: figures}, "breach": None}
            traced = run(site, way, plan, None, trace=True)
            if isinstance(traced, Death):
                return {"runs": runs | {way: traced}, "breach": None}
            runs[way] = figures | {"traced_bytes_each": traced["traced_bytes_each"], "cap_bytes": cap}
        breach = run(site, "unbounded", plan, plan.cap) if plan.cap else None
    return {"runs": runs, "breach": breach}


# -- judging -------------------------------------------------------------------------------------------------------


def problems(plan: Plan, runs: Figures, breach: Figures | Death | None) -> Iterator[str]:
    """Every claim that does not hold, as a sentence."""
    for way, figures in runs.items():
        if isinstance(figures, Death):
            yield f"{way}: the process ended with {figures}{advice(way, plan)}"
            return
        yield from problems_of_each(way, figures)
        if way in BOUNDED and figures["peak_resident_bytes"] >= plan.ceiling:
            peak, ceiling = format_bytes(figures["peak_resident_bytes"]), format_bytes(plan.ceiling)
            yield f"{way}: {peak} were resident at the peak, and the ceiling is {ceiling}"
    pool = runs["pool"]
    if pool["full_collections"]:
        yield f"pool: the loop caused {pool['full_collections']} full collections, and 0 were to be"
    if pool["traced_bytes_each"] > TRACED_GOAL_BYTES:
        each = pool["traced_bytes_each"]
        yield f"pool: each operation left {each:.1f} bytes allocated, and {TRACED_GOAL_BYTES} were to be the most"
    if breach is not None and not isinstance(breach, Death) and takes_more_than_the_cap(plan, runs):
        yield "unbounded under the cap: the process went on, so the cap proves nothing"


def problems_of_each(way: str, figures: Figures) -> Iterator[str]:
    """What has to be right whichever way it is run."""
    for receipt in figures["receipts"]:
        if receipt["state"] != "unloaded" or receipt["failures"]:
            why = "; ".join([*receipt["survivors"], *receipt["failures"]])
            yield f"{way}: {receipt['plugin']} is {receipt['state']}: {why}"
    counted = {
        "wrong_checksums": "readings were not what had been written",
        "lost_checksums": "readings are not in the index",
        "refusals": "buffers were refused",
        "left_bytes": "bytes of buffers are left after all plugins were unloaded",
    }
    yield from (f"{way}: {figures[name]} {what}" for name, what in counted.items() if figures[name])


def takes_more_than_the_cap(plan: Plan, runs: Figures) -> bool:
    """Whether the unbounded run took clearly more address space than the cap allows: a quarter more."""
    return plan.cap is not None and runs["unbounded"]["peak_address_bytes"] > plan.cap * 5 / 4


def advice(way: str, plan: Plan) -> str:
    """What to do about a process that ended."""
    if plan.cap is None or way not in BOUNDED:
        return ""
    return f". It had {format_bytes(plan.cap)} of address space; if that was too little, raise --address-space"


# -- printing ------------------------------------------------------------------------------------------------------


def optional_bytes(count: int | None) -> str:
    """A number of bytes that need not be."""
    return "none" if count is None else format_bytes(count)


ROWS: Final[tuple[tuple[str, Callable[[Figures], str]], ...]] = (
    ("resident at the peak", lambda one: format_bytes(one["peak_resident_bytes"])),
    ("address space at the peak", lambda one: format_bytes(one["peak_address_bytes"])),
    ("cap on address space", lambda one: optional_bytes(one["cap_bytes"])),
    ("full collections in the loop", lambda one: f"{one['full_collections']}"),
    ("buffers allocated in the loop", lambda one: f"{one['blocks']:,}"),
    ("bytes left by an operation", lambda one: f"{one['traced_bytes_each']:.1f}"),
    ("times the host made room", lambda one: f"{one['reactions']}"),
    ("buffers refused", lambda one: f"{one['refusals']}"),
)


TIMES: Final = (("time of the loop, plain is 1", "seconds"), ("processor time, plain is 1", "processor_seconds"))


def show(plan: Plan, result: Figures) -> None:
    """Print the table, the receipts, and what became of the breach."""
    runs: Figures = {way: one for way, one in result["runs"].items() if not isinstance(one, Death)}
    print(
        f"Python {platform.python_version()}: {2 * (plan.operations // 2):,} reads and writes of 64 KiB by "
        f"{len(PLUGINS)} plugins, under a ceiling of {format_bytes(plan.ceiling)}"
    )
    if plan.cap is None:
        why = "as it was asked for" if IS_CAPPED else f"for {sys.platform} does not keep to RLIMIT_AS, as Linux does"
        print(f"The address space is not capped, {why}")
    if runs:
        print(f"\n{'':<32}" + "".join(f"{way:>12}" for way in runs))
        for label, text in ROWS:
            print(f"{label:<32}" + "".join(f"{text(one):>12}" for one in runs.values()))
        for label, name in TIMES if "plain" in runs else ():
            ratios = (one[name] / runs["plain"][name] for one in runs.values())
            print(f"{label:<32}" + "".join(f"{ratio:>12.2f}" for ratio in ratios))
    for way, one in runs.items():
        print(f"\n{way}: unloaded, {format_bytes(one['left_bytes'])} of buffers left")
        for receipt in one["receipts"]:
            print(f"  {receipt_line(receipt)}")
    if result["breach"] is not None:
        print(f"\nunbounded, capped at {optional_bytes(plan.cap)}: {breach_line(result['breach'])}")


def receipt_line(receipt: Figures) -> str:
    """One plugin that was unloaded."""
    leases = ", ".join(f"{count} {kind}" for kind, count in sorted(receipt["leases"].items()))
    alive = f"{len(receipt['survivors'])} of {receipt['watched']} things survived"
    return f"{receipt['plugin']:<11}{receipt['state']:<9} {alive}; taken back: {leases}"


def breach_line(breach: Figures | Death) -> str:
    """What became of the process without bounds."""
    if isinstance(breach, Death):
        return f"the process ended with {breach}"
    return "the process went on; with so few operations it does not take that much"


# -- the command ---------------------------------------------------------------------------------------------------


def size(text: str) -> int:
    """An option in bytes."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size_from_1(text: str) -> int:
    """The ceiling."""
    if nbytes := size(text):
        return nbytes
    raise argparse.ArgumentTypeError(f"{text!r} leaves no room for anything")


def count_from_2(text: str) -> int:
    """The number of operations; a write and a read belong together."""
    with suppress(ValueError):
        if (number := int(text)) >= 2:
            return number
    raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 2 up")


def clear_up(number: int, frame: object) -> NoReturn:
    """Ctrl-C and its like: end the process that runs, and remove the files, however often it comes."""
    for name in SIGNALS:
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt


SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def main() -> int:
    """Run it all, and print; 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=count_from_2, default=10_000, help="reads and writes together (10000)")
    parser.add_argument("--ceiling", type=size_from_1, default="64 MiB", help="what a process may hold (64 MiB)")
    parser.add_argument("--address-space", type=size, help="cap on it; by default the ceiling, and 0 for no cap")
    parser.add_argument("--json", action="store_true", help="the figures as a document")
    options = parser.parse_args()
    cap = options.ceiling if options.address_space is None else options.address_space
    plan = Plan(operations=options.operations, ceiling=options.ceiling, cap=(cap or None) if IS_CAPPED else None)
    for name in SIGNALS:
        signal.signal(name, clear_up)
    try:
        result = run_all(plan)
    except KeyboardInterrupt:
        print("interrupted; the process that was running is ended, and its files are removed", file=sys.stderr)
        return 130
    found = list(problems(plan, result["runs"], result["breach"]))
    if options.json:
        document = {"python": platform.python_version(), "plan": plan, **result, "problems": found}
        print(json.dumps(document, indent=2, default=attrs.asdict))
    else:
        show(plan, result)
    for problem in found:
        print(f"does not hold: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
