"""Accounts, reports and receipts as tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final

from ..accounting.account import Account, Statement
from ..lifecycle.report import HostStatistics, LoadReport
from ..pressure.relief import Reaction
from ..reclaim.receipt import Receipt
from ..units import format_bytes
from .output import change, complain, count, one_line, print_table, say, seconds, share, size

_CHAINS: Final = 3

_OCCASIONS: Final = {"load": "a load", "buffer": "a buffer", "pressure": "the process", "request": "a plugin"}

ACCOUNT_COLUMNS: Final = ("plugin", ">python", ">leased", ">native", ">held", ">peak", ">at most", "leases")


def report_lines(report: LoadReport) -> list[str]:
    """What was not loaded, and why; and warnings of what was."""
    lines = []
    for outcome in (*report.dormant, *report.deferred, *report.refused, *report.failed):
        named = outcome.reason.startswith(f"{outcome.name}: ")
        lines.append(outcome.reason if named else f"{outcome.name}: {outcome.state} {outcome.reason}")
    lines += [f"{outcome.name}: {warning}" for outcome in report.loaded for warning in outcome.warnings]
    return lines


def show_report(report: LoadReport) -> None:
    """What was not loaded, on standard error."""
    for line in report_lines(report):
        complain(line)


def show_statement(statement: Statement, statistics: HostStatistics | None = None) -> None:
    """Every account, and the lines that belong to nobody; with statistics, how near the process is to its ceiling."""
    print_table(ACCOUNT_COLUMNS, account_rows(statement))
    say()
    say(summary(statement))
    for line in pressure_lines(statistics) if statistics is not None else []:
        say(line)


def account_rows(statement: Statement) -> list[Sequence[str]]:
    """Each account, then what belongs to nobody; where that is nothing there is no line."""
    rows: list[Sequence[str]] = [_account(account) for account in statement.plugins]
    for label, nbytes in (
        ("shared between plugins", statement.shared_bytes),
        ("standard library", statement.stdlib_bytes),
        ("left by unloaded plugins", statement.stranded_bytes),
        ("unattributed", statement.unattributed_bytes),
    ):
        if nbytes != 0:
            rows.append((f"({label})", "", "", "", format_bytes(nbytes), "", "", ""))
    return rows


def _account(account: Account) -> Sequence[str]:
    return (
        f"{account.plugin} {account.version}",
        format_bytes(account.traced_bytes if account.live_bytes is None else account.live_bytes),
        size(account.leased_bytes or None),
        format_bytes(account.native_bytes),
        format_bytes(account.held_bytes),
        format_bytes(account.peak_bytes),
        size(account.declared_peak_bytes),
        ", ".join(count(number, kind) for kind, number in sorted(account.leases.items())),
    )


def summary(statement: Statement) -> str:
    """The whole process in one line."""
    text = f"in use {format_bytes(statement.usage_bytes)}"
    if statement.ceiling_bytes is not None:
        text += f" of {format_bytes(statement.ceiling_bytes)}"
    text += f", promised {format_bytes(statement.promised_bytes)}"
    if statement.headroom_bytes is not None:
        text += f", headroom {format_bytes(statement.headroom_bytes)}"
    return text


def pressure_lines(statistics: HostStatistics) -> list[str]:
    """How near the process is to its ceiling, and the last attempt to make room; nothing where nobody looks."""
    memory = statistics.memory
    lines = []
    if memory is not None:
        limit = f", by {memory.outside_limit_source}" if memory.ceiling_bytes == memory.outside_limit_bytes else ""
        lines.append(
            f"pressure {memory.level}: the ceiling is {format_bytes(memory.ceiling_bytes)}{limit}, "
            f"room is made above {format_bytes(memory.threshold_bytes)}"
        )
    if (last := statistics.last_reaction) is not None:
        lines.append(f"last made room for {_OCCASIONS[last.occasion]}: {_outcome(last)}")
    return lines


def _outcome(reaction: Reaction) -> str:
    """What one attempt to make room came to."""
    text = f"{format_bytes(reaction.wanted_bytes)} wanted, {change(-reaction.freed_bytes)} measured"
    asked = ", ".join(f"{name} says {format_bytes(size)}" for name, size in reaction.believed_bytes.items())
    return f"{text} ({asked})" if asked else text


def show_receipts(receipts: Sequence[Receipt]) -> None:
    """One line for each, and the chains of what survived."""
    traced = any(receipt.reclaimed_bytes is not None for receipt in receipts)
    columns = ("plugin", "state", ">held", *([">reclaimed", ">share"] if traced else []))
    columns += (">resident", ">modules", ">survivors", ">took")
    print_table(columns, [_receipt(receipt, traced) for receipt in receipts])
    for line in (*_survivors(receipts), *_libraries(receipts)):
        say(line)
    for receipt in receipts:
        for failure in receipt.failures:
            complain(f"{receipt.plugin}: went wrong on the way out: {failure}")


def _receipt(receipt: Receipt, traced: bool) -> Sequence[str]:
    reclaimed = (format_bytes(receipt.reclaimed_bytes), share(receipt.reclaimed_share))
    return (
        receipt.plugin,
        receipt.state,
        format_bytes(receipt.held_bytes),
        *(reclaimed if traced else ()),
        change(-receipt.reclaimed_resident_bytes),
        f"{-receipt.modules_dropped}",
        f"{len(receipt.survivors)} of {receipt.watched}",
        seconds(sum(step.seconds for step in receipt.steps)),
    )


def _libraries(receipts: Iterable[Receipt]) -> Iterable[str]:
    for receipt in receipts:
        for library in receipt.libraries_kept:
            name, resident = os.path.basename(library.path), format_bytes(library.resident_bytes)
            yield one_line(f"{receipt.plugin}: {name} stays mapped, {resident} resident: Python closes no library")


def _survivors(receipts: Iterable[Receipt]) -> Iterable[str]:
    for receipt in receipts:
        for survivor in receipt.survivors[:_CHAINS]:
            chain = " <- ".join(survivor.chain) or survivor.tie
            yield one_line(f"{receipt.plugin}: {survivor.kind} {survivor.name} <- {chain}")
        if len(receipt.survivors) > _CHAINS:
            yield f"{receipt.plugin}: and {len(receipt.survivors) - _CHAINS} more; --json has them all"
