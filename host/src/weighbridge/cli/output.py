"""Tables for people, JSON for programs, progress for those who wait."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

import attrs
import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
group_option = click.option(
    "--group", default="weighbridge", show_default=True, help="Entry-point group, such as pytest11 or mkdocs.plugins."
)


def plain(thing: Any) -> Any:
    """A record as JSON knows it: its fields are the keys."""
    if attrs.has(type(thing)):
        return {field.name: plain(getattr(thing, field.name)) for field in attrs.fields(type(thing))}
    if isinstance(thing, Mapping):
        return {str(key): plain(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple | set | frozenset):
        return [plain(item) for item in thing]
    if isinstance(thing, Enum):
        return thing.value
    if isinstance(thing, BaseException):
        return str(thing)
    return thing


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(plain(document), indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Print a table; a column whose name begins with ``>`` is aligned to the right.

    Where the output is no terminal the table is as wide as it needs to be, and has no colours.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _width(table), highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def _width(table: Any) -> int:
    from rich.console import Console

    wide = Console(width=10_000)
    return max(20, int(wide.measure(table).maximum))


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on standard error, if that is a terminal; the function given names what is done next."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        started = False

        def step(name: str) -> None:
            nonlocal started
            bar.update(task, description=f"{what} {name}", advance=1 if started else 0)
            started = True

        yield step


def share(part: float | None) -> str:
    """A share as a percentage."""
    return "unknown" if part is None else f"{part:.0%}"


def seconds(duration: float | None) -> str:
    """A duration for people."""
    if duration is None:
        return "unknown"
    return f"{duration * 1000:.0f} ms" if duration < 1 else f"{duration:.1f} s"
