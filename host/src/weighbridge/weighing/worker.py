"""Running one task in a fresh interpreter, ``python -m weighbridge.weighing.worker FOLDER``: the side of that one.

What is imported here is not weighed, so it is little: the host, and what the host imports anyway.
"""

from __future__ import annotations

import ctypes
import faulthandler
import itertools
import json
import os
import signal
import sys
import traceback
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from weighbridge_hookspecs import GROUP, Candidate, LoadFailed, WeighbridgeError, hooks

from ..accounting.account import Account
from ..accounting.departure import CANNOT_GO
from ..accounting.imports import ImportRecorder
from ..accounting.ownership import top_level
from ..host import Host, MeterName
from ..reclaim.chains import explain
from ..reclaim.receipt import Receipt, Survivor
from ..reclaim.watch import Watched
from ..units import KIB, format_bytes
from .records import Finding
from .rehearsal import rehearse
from .tare import hosts_since, import_modules, make_room_for_names, of_stdlib
from .ties import holder, holders

_PRELOADED: Final = explain
"""Imported on first use by an unload, when it would be taken for the plugin's."""
_HOST: Final = str(Path(__file__).parents[1])
_GROWTH_BYTES: Final = KIB
_SHOWN: Final = 3
_DRAWN: Final = 12


def main(folder: Path) -> None:
    """Read the task, do it, write the result in one step, and end without a word to anybody."""
    me = os.getpid()
    faulthandler.enable()
    _end_with_the_caller()
    task: dict[str, Any] = json.loads(Path(folder, "task.json").read_bytes())
    task["settings"] = _settings(Path(folder, "settings.pickle"))
    task["store"] = Path(folder, "store.sqlite3")
    if task["path"]:  # as the caller has it, which no environment variable can express
        sys.path[:] = task["path"]
    content: dict[str, Any] = {"status": "ok"}
    try:
        content |= _TASKS[task["kind"]](task)
    except WeighbridgeError as error:
        content = {"status": "failed", "error": str(error)}
        if isinstance(error, LoadFailed):
            content["traceback"] = _without_host(error.traceback)
    except BaseException as error:  # a plugin may raise KeyboardInterrupt, or close our files
        said = "".join(traceback.format_exception_only(error)).strip()
        content = {"status": "failed", "error": said, "traceback": traceback.format_exc()}
    if os.getpid() == me:  # and no child that the plugin forked
        temporary = Path(folder, "result.tmp")
        temporary.write_text(json.dumps(content), encoding="utf-8")
        os.replace(temporary, Path(folder, "result.json"))
    # whatever the plugin prepared for the end of the interpreter, threads that never end among it, must not matter
    os._exit(0)


def _without_host(trace: str) -> str:
    """A traceback without the frames of the host and of the import system, which its author has not written."""
    kept, keep = [], True
    for line in trace.splitlines(keepends=True):
        if line.startswith('  File "'):
            keep = not line.startswith((f'  File "{_HOST}', '  File "<frozen importlib', '  File "<weighbridge'))
        elif not line.startswith("    "):
            keep = True
        if keep:
            kept.append(line)
    return "".join(kept)


def _settings(file: Path) -> Any:
    """Settings of the plugin, which may have more types than JSON."""
    if not file.exists():
        return {}
    import pickle

    return pickle.loads(file.read_bytes())


def _end_with_the_caller() -> None:
    """Have the kernel end this process when its caller is killed and cannot do it.

    PR_SET_PDEATHSIG: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _host(task: dict[str, Any], meter: MeterName) -> Host:
    """The host, which nobody closes: the process ends instead."""
    return Host(
        group=task["group"],
        meter=meter,
        settings={task["name"]: task["settings"]},
        explain_seconds=task["explain_seconds"],
        store=task["store"],
    )


def _time(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds and resident bytes, with nothing traced: tracing makes both of them bigger."""
    host = _host(task, "process")
    host.ask(task["name"])
    import_modules(task["host"])
    account = host.load(task["name"])
    return {"import_seconds": account.import_seconds, "resident_bytes": account.resident_bytes}


def _stdlib(task: dict[str, Any]) -> dict[str, Any]:
    """Modules of the standard library that it brings, and modules of the host that it makes the host import."""
    host = _host(task, "process")
    host.ask(task["name"])  # what that takes is the host's
    before = frozenset(sys.modules)
    with ImportRecorder() as recorder:
        host.load(task["name"])
        brought = recorder.brought()
    return {"host": hosts_since(before), "stdlib": of_stdlib(brought)}


def _trace(task: dict[str, Any]) -> dict[str, Any]:
    """Traced bytes, modules, and what came back."""
    names = make_room_for_names()
    host = _host(task, "gate")
    host.ask(task["name"])
    import_modules(task["host"])
    stdlib_bytes = import_modules(task["stdlib"])
    if task["host"]:
        rehearse(host._services)
    account = host.load(task["name"])
    receipt = host.unload(task["name"], dependencies=True)
    del names
    return {
        "traced_bytes": _brought(account),
        "stdlib_bytes": None if account.stdlib_bytes is None else account.stdlib_bytes + stdlib_bytes,
        "modules": account.modules,
        "reclaimed_bytes": receipt.reclaimed_bytes,
        "reclaimed_share": receipt.reclaimed_share,
        "survivors": [attrs.asdict(one) for one in receipt.survivors],
        "kept_modules": list(receipt.modules_kept),
    }


def _brought(account: Account) -> int | None:
    """All of it, what it leased included: so much has to fit under a ceiling."""
    if account.traced_bytes is None:
        return None
    return account.traced_bytes + (account.shared_bytes or 0) + account.leased_bytes


# --- explaining -------------------------------------------------------------------------------------------------------


def _explain(task: dict[str, Any]) -> dict[str, Any]:
    """What an unload left behind, and why; nothing is traced, which would only make it slow."""
    host, name = _host(task, "process"), task["name"]
    host.load(name)
    receipt = host.unload(name, dependencies=task["dependencies"], cut=task["cut"])
    graph, undrawn = None, None
    if task["graph"]:
        try:
            graph = _drawn(receipt, host._roster[name].stranded, task["explain_seconds"])
        except Exception as error:  # what is drawn is asked for its repr
            undrawn = f"{type(error).__name__}: {error}"
    return {
        "state": receipt.state,
        "watched": receipt.watched,
        "survivors": [attrs.asdict(one) for one in receipt.survivors],
        "ties": [attrs.asdict(one) for one in receipt.ties],
        "kept_modules": list(receipt.modules_kept),
        "failures": list(receipt.failures),
        "graph": graph,
        "undrawn": undrawn,
    }


def _drawn(receipt: Receipt, watched: Sequence[Watched], seconds: float) -> str | None:
    """The ways to some of the survivors, no more than one can look at: of each place the nearest, then the next."""
    from ..reclaim.graph import draw  # brings objgraph, which would be taken for the plugin's before it is gone

    chains = {(one.kind, one.name): one for one in receipt.survivors if one.chain}
    held: dict[str, list[Watched]] = {}
    named = [one for one in watched if (one.kind, one.name) in chains]
    for one in sorted(named, key=lambda one: len(chains[one.kind, one.name].chain)):
        held.setdefault(holder(chains[one.kind, one.name]), []).append(one)
    rounds = itertools.zip_longest(*sorted(held.values(), key=len, reverse=True))
    chosen = [one for some in rounds for one in some if one is not None][:_DRAWN]
    # no name but the list's: a variable of a running function would be the shortest way to what it names
    things = [thing for thing in [one.reference() for one in chosen] if thing is not None]
    return draw(things, seconds=seconds) or None


# --- checking ---------------------------------------------------------------------------------------------------------


@attrs.define
class _Rounds:
    """What several rounds of load and unload came to."""

    package: str
    """Of the plugin."""
    held: list[int] = attrs.field(factory=list)
    peaks: list[int] = attrs.field(factory=list)
    totals: list[int] = attrs.field(factory=list)
    problems: list[str] = attrs.field(factory=list)
    staying: dict[str, str] = attrs.field(factory=dict)
    """Dependencies that cannot go, whoever uses them, and why."""

    def loaded(self, account: Account) -> None:
        """Write down what a load took."""
        self.held.append(account.held_bytes)
        self.peaks.append(account.peak_bytes)

    def unloaded(self, receipt: Receipt) -> None:
        """Write down what came back."""
        self.totals.append(tracemalloc.get_traced_memory()[0])
        self.problems += receipt.failures
        own = top_level(self.package)
        foreign = [one for one in receipt.survivors if _cannot_go(one) and top_level(one.name) != own]
        self.staying.update({top_level(one.name): one.tie for one in foreign})
        survivors = tuple(one for one in receipt.survivors if one not in foreign)
        for name, number in holders(survivors):
            example = next(one for one in survivors if holder(one) == name)
            chain = " <- ".join((f"{example.kind} {example.name}", *example.chain))
            self.problems.append(f"{number} outlived it ({name}), such as {chain}")


def _cannot_go(survivor: Survivor) -> bool:
    """Whether it is a module that the process cannot let go of, whoever brought it."""
    return survivor.kind == "module" and survivor.tie.partition(":")[0] in CANNOT_GO


def _check(task: dict[str, Any]) -> dict[str, Any]:
    """Several rounds of load and unload, and what there is to say about each."""
    tracemalloc.start(1)
    host, name = _host(task, "gate"), task["name"]
    rounds = _Rounds(host.candidate(name).value.partition(":")[0])
    for _ in range(task["rounds"]):
        rounds.loaded(host.load(name))
        implemented = _implemented(host, name)
        rounds.unloaded(host.unload(name, dependencies=True))
        if rounds.problems:
            break
    findings = list(_findings(host.candidate(name), rounds, implemented))
    return {"findings": [attrs.asdict(finding) for finding in findings]}


def _findings(candidate: Candidate, rounds: _Rounds, implemented: dict[str, bool]) -> list[Finding]:
    """What is asked of a plugin; one that is written for another host has no manifest and none of our hooks."""
    manifest, ours = candidate.manifest, candidate.group == GROUP
    findings = []
    if ours and manifest is None:
        findings.append(Finding(criterion="manifest", passed=False, detail=_NO_MANIFEST))
    for what, figures, declared in (
        # the middle one, for a load may find the import system's own caches cold
        ("load", _middle(rounds.held), manifest.load_bytes if manifest else None),
        ("peak", max(rounds.peaks), manifest.peak_bytes if manifest else None),
    ):
        if ours or declared is not None:
            findings.append(_within(what, figures, declared))
    if ours:
        findings.append(_hooks(implemented, manifest.hooks if manifest else None))
    findings.append(_clean(rounds))
    if not rounds.problems:
        findings.append(_steady(rounds.totals))
    return findings


_NO_MANIFEST: Final = "there is none: add weighbridge.toml and an entry point in the group weighbridge.manifest"


def _implemented(host: Host, name: str) -> dict[str, bool]:
    """The hooks that a plugin implements, and whether it says that one may have no specification."""
    return {
        hook: any(impl.optionalhook for impl in getattr(host.hook, hook).get_hookimpls() if impl.plugin_name == name)
        for hook in host.implemented(name)
    }


def _within(what: str, measured: int, declared: int | None) -> Finding:
    if declared is None:
        detail = f"memory.{what} is not declared; it took {format_bytes(measured)}, so declare a little more than that"
        return Finding(criterion=what, passed=False, detail=detail)
    passed = measured <= declared
    detail = f"{format_bytes(measured)} of the declared {format_bytes(declared)}"
    return Finding(criterion=what, passed=passed, detail=detail if passed else f"{detail}: declare more, or hold less")


def _hooks(implemented: dict[str, bool], declared: tuple[str, ...] | None) -> Finding:
    known = {name for name in vars(hooks) if name.startswith("weighbridge_")}
    problems = [
        f"{hook} is not in the contract (if an application declares it: hookimpl(optionalhook=True))"
        for hook, optional in implemented.items()
        if hook not in known and not optional
    ]
    ours = {hook for hook in implemented if hook in known}
    if declared is not None:
        problems += [f"{hook} is implemented, but not in the manifest" for hook in sorted(ours - {*declared})]
        problems += [f"{hook} is in the manifest, but not implemented" for hook in sorted({*declared} - {*implemented})]
    others = len(implemented) - len(ours)
    fine = f"{len(ours)} implemented, all in the contract"
    if others:
        fine = f"{len(ours)} of the contract implemented, and {others} of an application's"
    return Finding(criterion="hooks", passed=not problems, detail="; ".join(problems) or fine)


def _clean(rounds: _Rounds) -> Finding:
    count, problems = len(rounds.held), rounds.problems
    if not problems:
        detail = f"{count} rounds of load and unload, and nothing outlived them"
        detail += "".join(
            f"; {name} stays with any plugin that uses it ({why})" for name, why in rounds.staying.items()
        )
        return Finding(criterion="clean", passed=True, detail=detail)
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return Finding(criterion="clean", passed=False, detail=f"round {count}: {'; '.join(problems[:_SHOWN])}{more}")


def _steady(totals: list[int]) -> Finding:
    """After a warm-up round, whose caches are nobody's leak. A leak is there in every round: the least growth has it.

    Tables of the interpreter, which hold what came and went, grow in steps.
    """
    growth = min((after - before for before, after in itertools.pairwise(totals[1:])), default=0)
    detail = f"a round leaves {format_bytes(max(0, growth))} of traced memory behind"
    limit = f"less than {format_bytes(_GROWTH_BYTES)} is fine"
    return Finding(criterion="steady", passed=growth < _GROWTH_BYTES, detail=f"{detail}; {limit}")


def _middle(figures: list[int]) -> int:
    """The median; the module ``statistics`` would bring half the standard library."""
    return sorted(figures)[(len(figures) - 1) // 2]


_TASKS: Final = {"stdlib": _stdlib, "trace": _trace, "time": _time, "check": _check, "explain": _explain}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
