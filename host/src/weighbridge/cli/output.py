"""Tables for people, JSON for programs, progress for those who wait.

Standard output has results and nothing else; what went wrong goes to standard error, one line for each thing.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from enum import Enum
from typing import IO, TYPE_CHECKING, Any, Final

import attrs
import click
from weighbridge_hookspecs import ConfigurationError

from ..units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
group_option = click.option(
    "--group",
    default="weighbridge",
    show_default=True,
    metavar="GROUP",
    help="Entry-point group, such as pytest11 or mkdocs.plugins.",
)

_STYLES: Final = {
    **dict.fromkeys(("active", "unloaded", "none", "ok"), "green"),
    **dict.fromkeys(("deferred", "dormant", "refused", "stranded", "blocked", "unresolved"), "yellow"),
    **dict.fromkeys(("crashed", "failed", "incompatible", "timeout", "NO"), "red"),
}
"""Words that have a colour where they begin a cell."""


# --- lines ------------------------------------------------------------------------------------------------------------


def say(text: str = "") -> None:
    """Print a line of the result.

    :raises BrokenPipeError: if nobody reads any more.
    :raises ConfigurationError: if standard output cannot be written for another reason.
    """
    try:
        click.echo(text)
    except BrokenPipeError:
        _stop_writing()
        raise
    except OSError as error:
        _stop_writing()
        problem = ConfigurationError(f"standard output cannot be written: {error.strerror}", step="print")
    else:
        return
    raise problem


def complain(text: object, *, kind: str = "") -> None:
    """Print one line on standard error, whatever the text is made of."""
    with suppress(OSError):
        # over the "^C" that a terminal shows
        start = "\r" if is_terminal(sys.stderr) else ""
        click.echo(f"{start}weighbridge: {f'{kind}: ' if kind else ''}{one_line(text)}", err=True)


def one_line(text: object) -> str:
    """Text that a plugin had a hand in, as one line that no terminal takes for a command."""
    words = " ".join(str(text).split())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in words)


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether a person looks at it; None and a closed stream are nobody."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _stop_writing() -> None:
    """What is still in the buffer goes nowhere, or Python would complain about the same thing on its way out.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


# --- JSON -------------------------------------------------------------------------------------------------------------


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
    say(json.dumps(plain(document), indent=2))


@contextmanager
def result_alone(alone: bool) -> Iterator[None]:
    """Inside, what plugins print goes to standard error if `alone`, so that standard output has one document."""
    if not alone:
        yield
        return
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # there is none, or one that is no file
        with redirect_stdout(sys.stderr):
            yield
        return
    try:
        errors = os.dup(2)
    except OSError:
        errors = os.open(os.devnull, os.O_WRONLY)
    kept = os.dup(number)
    os.dup2(errors, number)  # and not only sys.stdout, for C libraries print as well
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, number)
        os.close(kept)
        os.close(errors)


# --- tables -----------------------------------------------------------------------------------------------------------


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; a column whose name begins with ``>`` is aligned to the right.

    On a terminal that is too narrow for it, each row becomes a small block of its own. Where the output is no terminal
    the table is as wide as it needs to be, and has no colours.
    """
    every = [[one_line(cell) for cell in row] for row in rows]
    terminal, lines = is_terminal(sys.stdout), io.StringIO()
    width = None if terminal else _width(make_table(columns, every))
    console = make_console(file=lines, width=width, force_terminal=terminal)
    console.print(fitting(columns, every, console.width))
    for line in lines.getvalue().splitlines():
        say(line.rstrip())


def make_console(**options: Any) -> Console:
    """A console; ``NO_COLOR`` takes bold letters away, too: https://no-color.org."""
    from rich.console import Console

    return Console(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto", **options)


def fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> RenderableType:
    """The rows as a table, or as blocks if a table cannot be made as narrow as `width`."""
    table = make_table(columns, rows)
    return table if _width(table, narrowest=True) <= width else _blocks(columns, rows)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without lines. Columns of text are folded between words where it is too wide."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    return table


def _blocks(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    blocks: list[RenderableType] = []
    for row in rows:
        blocks.append(Text(row[0], style="bold"))
        block = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell:
                block.add_row(f"  {column.lstrip('>')}", Text(cell, style=_style(cell)))
        blocks.append(block)
    return Group(*blocks)


def _style(cell: str) -> str:
    return _STYLES.get(cell.strip().partition(":")[0], "")


def _width(table: Table, *, narrowest: bool = False) -> int:
    from rich.console import Console

    measured = Console(width=10_000).measure(table)
    return max(20, measured.minimum if narrowest else measured.maximum)


# --- progress ---------------------------------------------------------------------------------------------------------


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on standard error, if that is a terminal; the function given names what is done next."""
    if not is_terminal(sys.stderr) or os.environ.get("TERM") == "dumb":
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=make_console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        started = False

        def step(name: str) -> None:
            nonlocal started
            bar.update(task, description=f"{what} {one_line(name)}", advance=1 if started else 0)
            started = True

        yield step


# --- figures ----------------------------------------------------------------------------------------------------------


def size(nbytes: int | None) -> str:
    """A number of bytes, or a dash where there is none to show."""
    return "-" if nbytes is None else format_bytes(nbytes)


def change(nbytes: int) -> str:
    """By how much something grew or shrank."""
    return f"+{format_bytes(nbytes)}" if nbytes > 0 else format_bytes(nbytes)


def share(part: float | None) -> str:
    """A share as a percentage."""
    return "unknown" if part is None else f"{part:.0%}"


def seconds(duration: float | None) -> str:
    """A duration for people."""
    if duration is None:
        return "unknown"
    if duration < 1:
        return f"{duration * 1000:.0f} ms" if duration >= 0.001 else "< 1 ms"
    return f"{duration:.1f} s"


def count(number: int, noun: str) -> str:
    """``1 plugin``, ``2 plugins``, ``3 classes``."""
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"
