"""Accounts, reports and receipts as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ..accounting.account import Account, Statement
from ..lifecycle.report import LoadReport
from ..reclaim.receipt import Receipt
from ..units import format_bytes
from .output import change, complain, count, one_line, print_table, say, seconds, share, size

_CHAINS: Final = 3

ACCOUNT_COLUMNS: Final = ("plugin", ">python", ">native", ">held", ">peak", ">at most", "leases")


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


def show_statement(statement: Statement) -> None:
    """Every account, and the lines that belong to nobody."""
    print_table(ACCOUNT_COLUMNS, account_rows(statement))
    say()
    say(summary(statement))


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
            rows.append((f"({label})", "", "", format_bytes(nbytes), "", "", ""))
    return rows


def _account(account: Account) -> Sequence[str]:
    return (
        f"{account.plugin} {account.version}",
        format_bytes(account.traced_bytes if account.live_bytes is None else account.live_bytes),
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


def show_receipts(receipts: Sequence[Receipt]) -> None:
    """One line for each, and the chains of what survived."""
    traced = any(receipt.reclaimed_bytes is not None for receipt in receipts)
    columns = ("plugin", "state", ">held", *([">reclaimed", ">share"] if traced else []))
    columns += (">resident", ">modules", ">survivors", ">took")
    print_table(columns, [_receipt(receipt, traced) for receipt in receipts])
    for line in _survivors(receipts):
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


def _survivors(receipts: Iterable[Receipt]) -> Iterable[str]:
    for receipt in receipts:
        for survivor in receipt.survivors[:_CHAINS]:
            chain = " <- ".join(survivor.chain) or survivor.tie
            yield one_line(f"{receipt.plugin}: {survivor.kind} {survivor.name} <- {chain}")
        if len(receipt.survivors) > _CHAINS:
            yield f"{receipt.plugin}: and {len(receipt.survivors) - _CHAINS} more; --json has them all"
