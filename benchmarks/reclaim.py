"""What comes back of real packages: a naive unload beside ours, each package in an interpreter of its own.

    pip install -r benchmarks/reclaim-packages.txt
    python benchmarks/reclaim.py [--python PYTHON]... [--json] [PACKAGE]...

Naive is what is usually done: drop the modules from ``sys.modules`` and collect. Ours cuts the ties first, and a second
time if something is left. Both go through the same host, with dependencies that nobody else uses, and are weighed in
the same way: the share of the traced bytes of the import (its own modules and those of its dependencies) that came
back. Modules of the standard library that it needs are imported beforehand: a first run says which. Goals: no survivor,
and at least 95 %, for whatever is pure Python.

A row that says ``(pure)`` is of the same installed package without the compiled modules that it can do without, as if
it had been built on a machine without a compiler. attrs is a copy under another name, for the host has the original.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.abc import PathEntryFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path
from typing import Any

PACKAGES = {
    "click": "click",
    "rich": "rich.console rich.markdown rich.traceback rich.progress",
    "jinja2": "jinja2",
    "markdown": "markdown markdown.extensions.extra",
    "attrs": "copied_attrs",
    "faker": "faker",
    "pytest-mock": "pytest_mock",
    "hypothesis": "hypothesis hypothesis.strategies",
    "requests": "requests",
    "requests (pure)": "requests",
    "mkdocs": "mkdocs.__main__ mkdocs.commands.build",
    "mkdocs (pure)": "mkdocs.__main__ mkdocs.commands.build",
    "flake8": "flake8.main.application",
    "bugbear": "bugbear",
    "datasette": "datasette.cli",
    "datasette (pure)": "datasette.cli",
    "sphinx": "sphinx.application",
    "sqlalchemy (pure)": "sqlalchemy sqlalchemy.orm",
    "pydantic": "pydantic pydantic.main",
    "numpy": "numpy",
}
UNCOMPILED = {
    "requests (pure)": {"charset_normalizer"},
    "mkdocs (pure)": {"yaml"},
    "datasette (pure)": {"yaml", "markupsafe"},
    "sqlalchemy (pure)": {"sqlalchemy", "engine", "sql", "util"},
}
"""Folders in which no compiled module is found: each of them has one in Python that does the same."""
ABSENT = {"datasette (pure)": {"numpy"}}
"""What is not even needed, and taken if it happens to be there."""
COPIED = {"attrs": {"attr": "copied_attr", "attrs": "copied_attrs"}}
"""What the host uses itself, so that a load would bring nothing, and the names of the copies that are loaded."""
_INTERNED = 90_000
"""The interpreter's table of names doubles now and then, by up to a megabyte at once, and never shrinks: it is made big
beforehand, or whoever comes next would pay for it."""
_NAMES: list[str] = []
"""Keeps them: Python 3.12 never forgets a name, the others do with its last user."""
_STDLIB = sys.stdlib_module_names - {"__main__", "__mp_main__"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", help="an interpreter with the packages; by default this one")
    parser.add_argument("--json", action="store_true", help="print everything, every survivor with its tie among it")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"of: {', '.join(PACKAGES)}")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(unload(*options.one)), flush=True)
        os._exit(0)
    rows = []
    if unknown := set(options.packages) - PACKAGES.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; take of: {', '.join(PACKAGES)}")
    for python in options.python or [sys.executable]:
        for package in options.packages or PACKAGES:
            if sys.stderr.isatty():
                print(f"{python}: {package}", file=sys.stderr)
            stdlib = run(python, package, "list").get("stdlib", "")
            naive, ours = (run(python, package, cut, stdlib) for cut in ("none", "all"))
            rows.append({"package": package, "naive": naive, "ours": ours})
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(rows)


def run(python: str, package: str, cut: str, stdlib: str = "") -> dict[str, Any]:
    """One unload in a fresh interpreter; with ``"list"`` only the modules of the standard library that it brings."""
    command = [python, "-X", "tracemalloc=1", __file__, "--one", package, cut, stdlib]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


def unload(package: str, cut: Any, stdlib: str) -> dict[str, Any]:
    """Load the package as if it were a plugin, and unload it."""
    import importlib

    from weighbridge.fabricate import write_distribution
    from weighbridge.host import Host

    for name in filter(None, stdlib.split(",")):
        importlib.import_module(name)
    _NAMES.extend(sys.intern(f"name {number} of nobody's") for number in range(_INTERNED))
    modules = PACKAGES[package].split()
    for name in ABSENT.get(package, ()):
        sys.modules[name] = None  # type: ignore[assignment]  # that is how an import of it fails
    hide_compiled(UNCOMPILED.get(package, set()))
    before = set(sys.modules)
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        copy_packages(COPIED.get(package, {}), Path(folder))
        # a module that imports all of it and belongs to nobody, as the plugin's own package is what its modules name
        source = "".join(f"import {module}\n" for module in modules)
        write_distribution(Path(folder), "probe", source, attribute="", package="probe", group="benchmark")
        host = Host(group="benchmark")
        account = host.load("probe")
        if cut == "list":
            brought = sys.modules.keys() - before
            return {"stdlib": ",".join(sorted(name for name in brought if name.partition(".")[0] in _STDLIB))}
        receipt = host.unload("probe", dependencies=True, cut=cut, deadline_seconds=60.0)
    kinds: dict[str, int] = {}
    holders: dict[str, int] = {}
    for one in receipt.survivors:
        kinds[one.kind] = kinds.get(one.kind, 0) + 1
        holder = one.tie.partition("[")[0]
        holders[holder] = holders.get(holder, 0) + 1
    ties: dict[str, int] = {}
    for finding in receipt.ties:
        ties[finding.tie] = ties.get(finding.tie, 0) + 1
    return {
        "python": sys.version.split()[0],
        "modules": account.modules,
        "expected_bytes": receipt.expected_bytes,
        "reclaimed_bytes": receipt.reclaimed_bytes,
        "share": receipt.reclaimed_share,
        "immortal_bytes": receipt.immortal_bytes,
        "stdlib_bytes": receipt.stdlib_bytes,
        "watched": receipt.watched,
        "survivors": kinds,
        "held_by": dict(sorted(holders.items(), key=lambda item: -item[1])),
        "ties": ties,
        "kept": receipt.modules_kept,
        "left": [
            f"{one.tie}: {one.place} holds {one.held}: {one.note}" for one in receipt.ties if one.outcome != "cut"
        ],
        "steps": {step.name: round(step.seconds, 4) for step in receipt.steps},
        "failures": receipt.failures,
    }


def hide_compiled(folders: set[str]) -> None:
    """Find modules in Python only, in folders of these names."""
    python_only = FileFinder.path_hook((SourceFileLoader, SOURCE_SUFFIXES))

    def hook(folder: str) -> PathEntryFinder:
        if Path(folder).name not in folders:
            raise ImportError(folder)
        return python_only(folder)

    sys.path_hooks.insert(0, hook)


def copy_packages(names: dict[str, str], folder: Path) -> None:
    """Copy installed packages, and have them import one another under their new names."""
    imports = re.compile(rf"^(\s*(?:from|import) )({'|'.join(names)})\b", re.MULTILINE)
    for name, copy in names.items():
        spec = importlib.util.find_spec(name)
        installed = Path(str(spec and spec.origin)).parent
        shutil.copytree(installed, folder / copy, ignore=shutil.ignore_patterns("__pycache__"))
        for file in (folder / copy).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            file.write_text(imports.sub(lambda found: found[1] + names[found[2]], text), encoding="utf-8")


def print_table(rows: list[dict[str, Any]]) -> None:
    """One line for each package and Python, and what holds the rest below it."""
    print(f"{'':<7} {'':<17} {'':>7} {'naive':^17} {'ours':^17} {'never':>6}  what stays")
    print(f"{'Python':<7} {'package':<17} {'weighs':>7} {'back':>6} {'alive':>10} {'back':>6} {'alive':>10} {'':>6}")
    for row in rows:
        naive, ours = row["naive"], row["ours"]
        if "error" in naive or "error" in ours:
            print(f"{'':<7} {row['package']:<17} {naive.get('error') or ours.get('error')}")
            continue
        print(
            f"{ours['python']:<7} {row['package']:<17} {ours['expected_bytes'] / 1024:>6.0f}K "
            f"{percent(naive['share'])} {alive(naive)} {percent(ours['share'])} {alive(ours)} "
            f"{percent(never(ours))}  {stays(ours)}"
        )
    print("back: share of the traced bytes; alive: modules, classes and functions that outlived it, of how many")
    print("never: share of names and texts that the interpreter keeps until it ends")


def never(figures: dict[str, Any]) -> float | None:
    """The share of what the interpreter keeps; None if nothing was to come back, or nothing was measured."""
    kept, expected = figures["immortal_bytes"], figures["expected_bytes"]
    return kept / expected if expected and kept is not None else None


def percent(share: float | None) -> str:
    """``" 97 %"``."""
    return f"{share:>6.1%}" if share is not None else f"{'?':>6}"


def alive(figures: dict[str, Any]) -> str:
    """``"0/74"``."""
    return f"{sum(figures['survivors'].values())}/{figures['watched']}".rjust(10)


def stays(figures: dict[str, Any]) -> str:
    """What holds the survivors, and which packages stay because they cannot go, each with one reason."""
    reasons: dict[str, str] = {}
    for text in figures["kept"]:
        module, _, reason = text.removesuffix(")").partition(" (")
        reasons.setdefault(module.partition(".")[0], reason)
    whole = set(reasons.values())
    held = [f"{number} held by {holder}" for holder, number in figures["held_by"].items() if holder not in whole]
    kept = [name if f": {name} " in why else f"{name} ({_short(why)})" for name, why in reasons.items()]
    return "; ".join([*held[:3], *([f"stay: {', '.join(kept)}"] if kept else [])])


def _short(reason: str) -> str:
    """``"compiled: yaml._yaml was made by Cython, which ..."`` without the kind, and without what explains it."""
    return reason.partition(": ")[2].partition(",")[0]


if __name__ == "__main__":
    main()
