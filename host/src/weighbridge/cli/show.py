"""Accounts, reports and receipts as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import click

from ..accounting.account import Statement
from ..lifecycle.report import LoadReport
from ..reclaim.receipt import Receipt
from ..units import format_bytes
from .output import print_table, seconds, share

_CHAINS = 3


def show_report(report: LoadReport) -> None:
    """What was not loaded, and why; and warnings of what was."""
    for heading in ("dormant", "deferred", "refused", "failed"):
        for outcome in getattr(report, heading):
            reason = outcome.reason if outcome.name in outcome.reason else f"{outcome.name}: {outcome.reason}"
            click.echo(f"{heading}: {reason}")
    for outcome in report.loaded:
        for warning in outcome.warnings:
            click.echo(f"warning: {outcome.name}: {warning}")


def show_statement(statement: Statement) -> None:
    """Every account, and the lines that belong to nobody."""
    print_table(
        ("plugin", ">python", ">native", ">held", ">peak", ">promised at most", ">modules", ">import", "leases"),
        _accounts(statement),
    )
    ceiling = f" of {format_bytes(statement.ceiling_bytes)}" if statement.ceiling_bytes is not None else ""
    left = f", headroom {format_bytes(statement.headroom_bytes)}" if statement.headroom_bytes is not None else ""
    click.echo(
        f"\nin use {format_bytes(statement.usage_bytes)}{ceiling}, promised {format_bytes(statement.promised_bytes)}{left}"
    )


def _accounts(statement: Statement) -> Iterator[Sequence[str]]:
    for account in statement.plugins:
        python = account.traced_bytes if account.live_bytes is None else account.live_bytes
        yield (
            f"{account.plugin} {account.version}",
            format_bytes(python),
            format_bytes(account.native_bytes),
            format_bytes(account.held_bytes),
            format_bytes(account.peak_bytes),
            "-" if account.declared_peak_bytes is None else format_bytes(account.declared_peak_bytes),
            str(account.modules),
            seconds(account.import_seconds),
            ", ".join(f"{count} {kind}" for kind, count in sorted(account.leases.items())),
        )
    for label, nbytes in (
        ("shared between plugins", statement.shared_bytes),
        ("standard library", statement.stdlib_bytes),
        ("left by unloaded plugins", statement.stranded_bytes),
        ("unattributed", statement.unattributed_bytes),
    ):
        yield (f"({label})", "", "", format_bytes(nbytes), "", "", "", "", "")


def show_receipts(receipts: Iterable[Receipt]) -> None:
    """One line for each, and the chains of what survived."""
    every = list(receipts)
    columns = (
        "plugin",
        "state",
        ">held",
        ">reclaimed",
        ">share",
        ">resident change",
        ">modules",
        ">objects",
        ">survivors",
        ">took",
    )
    print_table(columns, [_receipt(receipt) for receipt in every])
    for receipt in every:
        for survivor in receipt.survivors[:_CHAINS]:
            click.echo(
                f"{receipt.plugin}: {survivor.kind} {survivor.name} <- {' <- '.join(survivor.chain) or survivor.tie}"
            )
        if len(receipt.survivors) > _CHAINS:
            click.echo(f"{receipt.plugin}: and {len(receipt.survivors) - _CHAINS} more; --json has them all")
        for failure in receipt.failures:
            click.echo(f"{receipt.plugin}: went wrong: {failure}")


def _receipt(receipt: Receipt) -> Sequence[str]:
    return (
        receipt.plugin,
        receipt.state,
        format_bytes(receipt.held_bytes),
        format_bytes(receipt.reclaimed_bytes),
        share(receipt.reclaimed_share),
        format_bytes(-receipt.reclaimed_resident_bytes),
        f"-{receipt.modules_dropped}",
        f"{receipt.objects_after - receipt.objects_before:+d}",
        f"{len(receipt.survivors)} of {receipt.watched}",
        seconds(sum(step.seconds for step in receipt.steps)),
    )
