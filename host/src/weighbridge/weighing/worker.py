"""Running one task in a fresh interpreter: the side of the interpreter. ``python -m weighbridge.weighing.worker FOLDER``."""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import statistics
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import attrs
from weighbridge_hookspecs import WeighbridgeError, hooks

# imported now, so that their memory is not taken for the plugin's
from ..accounting.account import Account
from ..host import Host, MeterName
from ..reclaim import chains as chains
from ..reclaim.receipt import Receipt
from ..units import KIB, format_bytes
from .records import Finding

_GROWTH_BYTES = KIB


def main(folder: Path) -> None:
    """Read the task, do it, write the result in one step."""
    faulthandler.enable()
    task: dict[str, Any] = json.loads(Path(folder, "task.json").read_bytes())
    if task["path"]:  # as the caller has it, which no environment variable can express
        sys.path[:] = task["path"]
    try:
        content = {"trace": _trace, "time": _time, "check": _check}[task["kind"]](task)
        content["status"] = "ok"
    except WeighbridgeError as error:
        content = {"status": "failed", "error": str(error)}
    temporary = Path(folder, "result.tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    os.replace(temporary, Path(folder, "result.json"))


def _host(task: dict[str, Any], meter: MeterName) -> Host:
    return Host(
        group=task["group"],
        meter=meter,
        settings={task["name"]: task["settings"]},
        explain_seconds=task["explain_seconds"],
    )


def _time(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds and resident bytes, with nothing traced: tracing makes both of them bigger."""
    with _host(task, "process") as host:
        account = host.load(task["name"])
        return {"import_seconds": account.import_seconds, "resident_bytes": account.resident_bytes}


def _trace(task: dict[str, Any]) -> dict[str, Any]:
    """Traced bytes, modules, and what came back."""
    tracemalloc.start(1)  # stays on over the unload, which the gate alone does not
    with _host(task, "gate") as host:
        account = host.load(task["name"])
        receipt = host.unload(task["name"], dependencies=True)
    return {
        "traced_bytes": _brought(account),
        "stdlib_bytes": account.stdlib_bytes,
        "modules": account.modules,
        "reclaimed_bytes": receipt.reclaimed_bytes,
        "reclaimed_share": receipt.reclaimed_share,
        "survivors": [attrs.asdict(one) for one in receipt.survivors],
        "kept_modules": list(receipt.modules_kept),
    }


def _brought(account: Account) -> int | None:
    return None if account.traced_bytes is None else account.traced_bytes + (account.shared_bytes or 0)


def _check(task: dict[str, Any]) -> dict[str, Any]:
    """Several rounds of load and unload, and what there is to say about each."""
    tracemalloc.start(1)
    with _host(task, "gate") as host:
        held = peak = 0
        totals: list[int] = []
        for _ in range(task["rounds"]):
            account = host.load(task["name"])
            held, peak = max(held, account.held_bytes), max(peak, account.peak_bytes)
            implemented = host.implemented(task["name"])
            receipt = host.unload(task["name"], dependencies=True)
            totals.append(tracemalloc.get_traced_memory()[0])
            if receipt.state != "unloaded":
                break
        known = {name for name in vars(hooks) if name.startswith("weighbridge_")}
        manifest = host.candidate(task["name"]).manifest
    findings = [
        _within("load", held, account.declared_load_bytes),
        _within("peak", peak, account.declared_peak_bytes),
        _hooks(implemented, known, None if manifest is None else manifest.hooks),
        _clean(receipt, len(totals)),
        _steady(totals),
    ]
    return {"findings": [attrs.asdict(finding) for finding in findings]}


def _within(what: str, measured: int, declared: int | None) -> Finding:
    if declared is None:
        detail = f"memory.{what} is not declared; it took {format_bytes(measured)}, so declare a little more than that"
        return Finding(criterion=what, passed=False, detail=detail)
    passed = measured <= declared
    detail = f"{format_bytes(measured)} of the declared {format_bytes(declared)}"
    return Finding(criterion=what, passed=passed, detail=detail if passed else f"{detail}: declare more, or hold less")


def _hooks(implemented: tuple[str, ...], known: set[str], declared: tuple[str, ...] | None) -> Finding:
    problems = [f"{hook} is not in the contract" for hook in implemented if hook not in known]
    if declared is not None:
        problems += [f"{hook} is implemented, but not in the manifest" for hook in sorted({*implemented} - {*declared})]
        problems += [f"{hook} is in the manifest, but not implemented" for hook in sorted({*declared} - {*implemented})]
    detail = "; ".join(problems) or f"{len(implemented)} implemented, all in the contract"
    return Finding(criterion="hooks", passed=not problems, detail=detail)


def _clean(last: Receipt, rounds: int) -> Finding:
    problems = [
        *last.failures,
        *(f"{one.kind} {one.name} <- {' <- '.join(one.chain) or one.tie}" for one in last.survivors),
    ]
    if not problems:
        return Finding(
            criterion="clean", passed=True, detail=f"{rounds} rounds of load and unload, nothing outlived them"
        )
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    return Finding(criterion="clean", passed=False, detail=f"round {rounds}: {'; '.join(problems[:3])}{more}")


def _steady(totals: list[int]) -> Finding:
    """By how much a round usually grows, after a warm-up round, whose caches are nobody's leak.

    The median: a table of the interpreter's that grows in one round is no leak, what leaks does so in every round.
    """
    growths = [after - before for before, after in itertools.pairwise(totals[1:])]
    if not growths:
        return Finding(criterion="steady", passed=False, detail="too few rounds to tell")
    growth = int(statistics.median(growths))
    passed = growth < _GROWTH_BYTES
    detail = f"traced bytes grow by {growth} a round"
    return Finding(criterion="steady", passed=passed, detail=detail if passed else f"{detail}; less than 1 KiB is fine")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
