"""``weighbridge run``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from ..host import Host
from ..lifecycle.report import LoadReport
from ..reclaim.receipt import Receipt
from .config import config_option, read_config
from .output import group_option, json_option, print_json
from .show import show_receipts, show_report, show_statement


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--ceiling", metavar="SIZE", help="What the process may hold, such as 128MiB.")
@group_option
@config_option
@click.option(
    "--meter",
    type=click.Choice(["process", "gate", "trace"]),
    default="gate",
    show_default=True,
    help="How to measure; trace is exact and slow.",
)
@click.option("--once", is_flag=True, help="Unload at once instead of waiting for Ctrl-C.")
@json_option
def run(
    names: tuple[str, ...], ceiling: str | None, group: str, config: Path | None, meter: str, once: bool, as_json: bool
) -> int:
    """Admit and load plugins, show what they hold, and on Ctrl-C (or SIGTERM) unload them with a receipt for each.

    Without a NAME all plugins of the group are loaded.

    \b
    Example:
      weighbridge run --ceiling 64MiB --once
    """
    settings = read_config(config)
    stop = threading.Event()
    with _signals(stop):
        host = Host(
            settings.ceiling if ceiling is None else ceiling,
            group=group,
            meter=meter,  # type: ignore[arg-type]
            settings=settings.plugins,
            disabled=settings.disabled,
        )
        try:
            report = host.load_all(names or None)
            statement = host.accounts()
            if not as_json:
                show_report(report)
                show_statement(statement)
            if not once and report.loaded:
                if not as_json:
                    click.echo("\nrunning; Ctrl-C unloads everything", err=True)
                stop.wait()
        finally:
            loaded = [one.name for one in host.plugins() if one.state == "active"]
            host.close()
        receipts = [host.receipts[name] for name in loaded]
    if as_json:
        print_json({"report": report, "statement": statement, "receipts": receipts})
    elif receipts:
        click.echo("")
        show_receipts(receipts)
    return _code(report, receipts)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask for the end, once; a second Ctrl-C does not wait."""

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _code(report: LoadReport, receipts: list[Receipt]) -> int:
    if report.failed:
        return 3
    return 1 if report.refused or report.deferred or any(one.state == "stranded" for one in receipts) else 0
