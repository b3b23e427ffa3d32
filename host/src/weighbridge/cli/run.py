"""``weighbridge run``."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

import attrs
import click
from weighbridge_hookspecs import Event, hookimpl

from ..accounting.account import Statement
from ..host import Host
from ..lifecycle.report import LoadReport
from ..units import format_bytes
from .config import Config, ceiling_option, config_option, make_host, read_config, store_option
from .ending import exit_code, unload_all
from .interrupts import Interrupted, interruptible
from .output import (
    complain,
    fitting,
    group_option,
    is_terminal,
    json_option,
    make_console,
    one_line,
    print_json,
    result_alone,
    say,
)
from .show import ACCOUNT_COLUMNS, account_rows, pressure_lines, show_receipts, show_report, show_statement, summary

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_NAME: Final = "weighbridge.command-line"
_LASTING: Final = ("active", "deferred", "failed", "refused", "stranded", "unloaded")
"""States that last; the others are on the way to one of these."""
_TERMINAL_SECONDS: Final = 2.0
_WAIT_SECONDS: Final = 1.0


@click.command(short_help="Load plugins under a ceiling, and unload them on Ctrl-C.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@ceiling_option
@click.option(
    "--bounded",
    is_flag=True,
    help="Stay under the ceiling, 128 MiB by default: buffers are pooled, and near it room is made.",
)
@store_option
@group_option
@config_option
@click.option(
    "--meter",
    type=click.Choice(["process", "gate", "trace"]),
    default="gate",
    show_default=True,
    help="How to measure: trace is exact and slow.",
)
@click.option("--once", is_flag=True, help="Unload at once instead of waiting for Ctrl-C.")
@click.option(
    "--every",
    metavar="SECONDS",
    type=click.FloatRange(0.1),
    help="How often to show the accounts again; by default 2 on a terminal, and never elsewhere.",
)
@json_option
def run(
    names: tuple[str, ...],
    ceiling: str | None,
    bounded: bool,
    store: Path | None,
    group: str,
    config: Path | None,
    meter: str,
    once: bool,
    every: float | None,
    as_json: bool,
) -> int:
    """Admit and load plugins, show what they hold, and on Ctrl-C (or SIGTERM) unload them with a receipt for each.

    Without a NAME all plugins of the group are loaded. While they run, a terminal shows their accounts as they are, and
    what happens to them is a line each. A second Ctrl-C does not wait for the unloading.

    \b
    Example:
      weighbridge run --ceiling 64MiB --once
    """
    settings = read_config(config)
    memory = attrs.evolve(settings.memory, enabled=True) if bounded else settings.memory
    host = make_host(settings, ceiling=ceiling, store=store, group=group, meter=meter, memory=memory)
    report = statement = statistics = interruption = None
    with result_alone(as_json):
        try:
            _warn_of_strangers(host, settings, config)
            with interruptible() as signals:
                report = host.load_all(names or None)
            signals.check()
            show_report(report)
            if not once and (report.loaded or report.dormant or report.deferred):
                _keep_running(host, every, as_json)
            host.check_memory()
            statement, statistics = host.accounts(), host.statistics()
            if not as_json:
                _show_end(host, statement)
        except Interrupted as error:
            interruption = error
            complain(_interrupted_at(host))
        finally:
            ending = unload_all(host)
    if as_json:
        document = {"report": report, "statement": statement, "statistics": statistics, "receipts": ending.receipts}
        print_json({**document, "problems": ending.problems})
    elif ending.receipts:
        say()
        show_receipts(ending.receipts)
    for problem in ending.problems:
        complain(problem)
    if ending.interrupted:
        complain("interrupted again; what was not unloaded is left as it is")
    if interruption is not None:
        return interruption.exit_code
    return exit_code(report or LoadReport(), ending)


def _warn_of_strangers(host: Host, settings: Config, file: Path | None) -> None:
    found = host.discover()
    known = [one.name for one in found.candidates] + [one.plugin for one in found.problems if one.plugin]
    for line in settings.strangers(known):
        complain(f"{file}: {line}", kind="warning")


def _show_end(host: Host, statement: Statement) -> None:
    if not host.plugins():
        say(f"no plugin is installed in the group {host.group!r}")
    show_statement(statement, host.statistics())


def _interrupted_at(host: Host) -> str:
    """What was under way; a plugin whose load is interrupted is taken back at once."""
    under_way = [
        one.name for one in host.plugins() if one.reason == "interrupted" or one.state in ("admitted", "loaded")
    ]
    return f"interrupted while {under_way[0]} was being loaded" if under_way else "interrupted"


# --- while they run ---------------------------------------------------------------------------------------------------


class _Observer:
    """Puts what happens into a queue, for it happens in any thread."""

    def __init__(self) -> None:
        self.lines: SimpleQueue[str] = SimpleQueue()

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        if (text := _words(event)) is not None:
            self.lines.put(f"{time.strftime('%H:%M:%S')} {one_line(text)}")


def _words(event: Event) -> str | None:
    """An event as a line for the operator; None if it is not worth one."""
    if event.kind == "state" and event.state in _LASTING:
        return f"{event.plugin}: {event.state}{f', {event.reason}' if event.reason else ''}"
    if event.kind == "pressure":
        return f"memory pressure is {event.level}{f', {event.reason}' if event.reason else ''}"
    if event.kind == "release":
        return f"{format_bytes(event.bytes)} came back, {event.reason}"
    return None  # a refusal is a state, too


def _keep_running(host: Host, every: float | None, as_json: bool) -> None:
    """Show what happens until somebody wants the end."""
    terminal = is_terminal(sys.stdout) and not as_json
    if terminal and every is None:
        every = _TERMINAL_SECONDS
    observer, since = _Observer(), time.monotonic()
    host.register(_NAME, observer)
    try:
        if not terminal:
            if not as_json:
                show_statement(host.accounts(), host.statistics())
            complain("running; Ctrl-C or SIGTERM unloads everything")
        with _live() if terminal else nullcontext() as live:
            while True:
                if live is not None:
                    live.update(_now(host, time.monotonic() - since, live.console.width), refresh=True)
                try:
                    line = _next_line(observer.lines, every)
                except Empty:
                    if live is None and not as_json:
                        say(f"\n{time.strftime('%H:%M:%S')}")
                        show_statement(host.accounts(), host.statistics())
                else:
                    if live is not None:
                        live.console.print(line, markup=False)
                    elif not as_json:
                        say(line)
    except Interrupted:
        return
    finally:
        host.unregister(_NAME)


def _next_line(lines: SimpleQueue[str], seconds: float | None) -> str:
    """The next line, waited for in pieces: a signal that comes just before a wait does not end it.

    :param seconds: how long to wait; None is for ever.
    :raises Empty: if there is none by then.
    """
    end = math.inf if seconds is None else time.monotonic() + seconds
    while (left := end - time.monotonic()) > _WAIT_SECONDS:
        try:
            return lines.get(timeout=_WAIT_SECONDS)
        except Empty:
            continue
    return lines.get(timeout=max(left, 0))


@contextmanager
def _live() -> Iterator[Live]:
    from rich.live import Live

    with Live(console=make_console(), auto_refresh=False, transient=True) as live:
        yield live


def _now(host: Host, running_seconds: float, width: int) -> RenderableType:
    """What the terminal shows while plugins run."""
    from rich.console import Group
    from rich.text import Text

    statement = host.accounts()
    minutes, seconds = divmod(int(running_seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return Group(
        fitting(ACCOUNT_COLUMNS, account_rows(statement), width),
        Text("\n" + "\n".join([summary(statement), *pressure_lines(host.statistics())])),
        Text(f"running for {hours}:{minutes:02}:{seconds:02}; Ctrl-C unloads everything", style="dim"),
    )
