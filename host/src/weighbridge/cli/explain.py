"""``weighbridge explain``."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast, get_args

import click
from weighbridge_hookspecs import ConfigurationError

from ..host import Host
from ..reclaim.receipt import Survivor
from ..reclaim.ties.catalogue import TIES
from ..reclaim.ties.tie import Cut, Finding
from ..weighing.branches import Branch, tree
from ..weighing.records import Explanation
from ..weighing.ties import kinds
from ..weighing.weigh import explain as explain_one
from .config import config_option, read_config
from .output import (
    complain,
    count,
    group_option,
    is_terminal,
    json_option,
    make_console,
    one_line,
    print_json,
    print_table,
    progress,
    say,
)

if TYPE_CHECKING:
    from rich.tree import Tree

_FORMATS: Final = (".svg", ".png", ".pdf", ".dot")
_NAMED: Final = 3
_LISTED: Final = 3
_DRAW_SECONDS: Final = 60.0


def _picture(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in _FORMATS:
        raise click.BadParameter(f"{str(path)!r} does not end in {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}.")
    return path


@click.command(short_help="What keeps an unloaded plugin in memory?")
@click.argument("name")
@group_option
@click.option(
    "--cut",
    default="safe",
    show_default=True,
    type=click.Choice(get_args(Cut)),
    help="Which ties to cut first: those that cannot disturb others, all, or none.",
)
@click.option("--keep-dependencies", is_flag=True, help="Unload the plugin alone, without its dependencies.")
@click.option(
    "--graph",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_picture,
    help="Draw some of the chains; .svg, .png and .pdf need Graphviz, .dot does not.",
)
@click.option(
    "--limit",
    default=20,
    show_default=True,
    metavar="N",
    type=click.IntRange(1),
    help="Places in the tree that hold something; --json has them all.",
)
@click.option(
    "--timeout",
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="For the interpreter.",
)
@config_option
@json_option
def explain(
    name: str,
    group: str,
    cut: str,
    keep_dependencies: bool,
    graph: Path | None,
    limit: int,
    timeout: float,
    config: Path | None,
    as_json: bool,
) -> int:
    """What keeps a plugin in memory after it was unloaded?

    The plugin is loaded and unloaded in a fresh interpreter. What outlives it hangs on a tree with the roots at the
    top; below stand the ties that were cut, and what stays for another reason. With --cut none everything that would
    hold it is found at work.

    \b
    Examples:
      weighbridge explain lantern
      weighbridge explain xdist --group pytest11 --cut none --graph xdist.svg
    """
    if graph is not None and find_spec("objgraph") is None:
        raise ConfigurationError("a graph is drawn with objgraph", advice="Install it: python -m pip install objgraph")
    settings = read_config(config).plugins
    with Host(group=group) as host:
        candidate = host.candidate(name)
    with progress("explaining", 1) as step:
        step(candidate.name)
        explanation = explain_one(
            candidate,
            cut=cast("Cut", cut),
            dependencies=not keep_dependencies,
            graph=graph is not None,
            timeout_seconds=timeout,
            settings=settings.get(candidate.name),
        )
    if as_json:
        print_json({"explanation": explanation})
    else:
        _show(explanation, limit)
    drawn = graph is None or explanation.status != "ok" or _draw(explanation, graph)
    if explanation.status != "ok":
        return 3
    if not drawn:
        return 2
    return 1 if explanation.survivors else 0


# --- words ------------------------------------------------------------------------------------------------------------


def _show(explanation: Explanation, limit: int) -> None:
    named = f"{explanation.name} ({explanation.distribution} {explanation.version})"
    if explanation.status != "ok":
        error = one_line(explanation.error).removeprefix(f"{explanation.name}: ")
        complain(f"{named}: {explanation.status}: {error}")
        for line in (explanation.traceback or "").rstrip().splitlines():
            say(f"  {one_line(line)}" if not line.startswith(" ") else f"  {line}")
        return
    say(one_line(f"{named}: {_verdict(explanation)}"))
    top = tree(explanation.survivors, limit=limit)
    if top.count:
        say()
        _print_tree(top)
    if explanation.survivors:
        _print_block(("tie", ">places", "outcome", "such as", "why"), _ties(explanation.ties))
    _print_block(("what stays", "why"), _staying(explanation))
    for failure in explanation.failures:
        complain(f"{explanation.name}: went wrong on the way out: {failure}")


def _verdict(explanation: Explanation) -> str:
    if explanation.survivors:
        what = ", ".join(count(number, kind) for kind, number in kinds(explanation.survivors))
        return f"{explanation.state}, {len(explanation.survivors)} of {explanation.watched} outlived it: {what}"
    cut = Counter(tie.tie for tie in explanation.ties if tie.outcome == "cut").most_common()
    ties = ", ".join(f"{name} ({number})" for name, number in cut)
    return f"nothing outlived it; {f'what was cut: {ties}' if cut else 'nothing had to be cut'}"


def _print_block(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    if rows := list(rows):
        say()
        print_table(columns, rows)


def _ties(found: Iterable[Finding]) -> Iterator[Sequence[str]]:
    """A row for each tie and what became of it."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for one in found:
        alike.setdefault((one.tie, one.outcome, one.note), []).append(one)
    sentences = {tie.name: tie.sentence for tie in TIES}
    for (tie, outcome, note), same in alike.items():
        why = sentences.get(tie, "")
        yield tie, str(len(same)), outcome, same[0].place, f"{why}; {note}" if note else why


def _staying(explanation: Explanation) -> Iterator[Sequence[str]]:
    """What no chain says: survivors without one, and modules that rightly stay; those with the same reason together."""
    reasons: dict[str, list[Survivor]] = {}
    for one in explanation.survivors:
        if not one.chain:
            reasons.setdefault(one.tie, []).append(one)
    for module in explanation.kept_modules:
        name, _, why = module.partition(" (")
        kept = Survivor(kind="module", name=name, tie=why.removesuffix(")"), chain=())
        reasons.setdefault(kept.tie, []).append(kept)
    for why, those in reasons.items():
        names = _named(those)
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        yield ", ".join(names[:_LISTED]) + more, why


# --- the tree ---------------------------------------------------------------------------------------------------------


class _Lines(io.StringIO):
    """Text that is going to standard output, with letters that it has."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """By which rich decides on the lines of a tree."""
        return getattr(sys.stdout, "encoding", None) or "utf-8"


def _print_tree(top: Branch) -> None:
    """As wide as it needs to be where the output is no terminal, like a table."""
    terminal, lines = is_terminal(sys.stdout), _Lines()
    console = make_console(file=lines, width=None if terminal else 10_000, force_terminal=terminal)
    for root in top.sorted():
        console.print(_tree(root))
    if top.hidden:
        console.print(_hidden(top))
    for line in lines.getvalue().splitlines():
        say(line.rstrip())


def _tree(root: Branch) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    def label(branch: Branch) -> Text:
        return Text.assemble((one_line(branch.text), "bold"), f" ({branch.count})")

    root = root.joined()
    whole = Tree(label(root))
    waiting = [(root, whole)]
    while waiting:  # and not by calling itself: a chain is as long as it is
        branch, grown = waiting.pop()
        for line in _leaves(branch.survivors):
            grown.add(Text(one_line(line)))
        for smaller in branch.sorted():
            one = smaller.joined()
            waiting.append((one, grown.add(label(one))))
        if branch.hidden:
            grown.add(Text(_hidden(branch)))
    return whole


def _hidden(branch: Branch) -> str:
    return f"and {branch.hidden} more; --limit shows more places, --json has them all"


def _leaves(survivors: Sequence[Survivor]) -> Iterator[str]:
    names = _named(survivors)
    if len(names) <= _NAMED:
        yield from names
        return
    what = ", ".join(count(number, kind) for kind, number in kinds(survivors))
    yield f"{what}, such as {names[0]}"


def _named(survivors: Iterable[Survivor]) -> list[str]:
    """What they are called, each name once: overloads of a function have the same."""
    names = Counter(f"{one.kind} {one.name}" for one in sorted(survivors, key=lambda one: (one.kind, one.name)))
    return [name if number == 1 else f"{name} ({number})" for name, number in names.items()]


# --- the picture ------------------------------------------------------------------------------------------------------


def _draw(explanation: Explanation, file: Path) -> bool:
    """Write the picture; whether it is the one that was asked for."""
    if explanation.undrawn is not None:
        complain(f"{file} was not drawn: {explanation.undrawn}")
        return False
    if explanation.graph is None:
        complain(f"there is no chain to draw: {file} was not written")
        return True
    program = shutil.which("dot")
    if file.suffix.lower() == ".dot" or program is None:
        beside = file.with_suffix(".dot")
        _write(beside, explanation.graph)
        if beside == file or file.suffix.lower() == ".dot":
            return True
        again = f"dot -T{_format(file)} {beside} -o {file}"
        complain(f"Graphviz's dot is not on PATH: wrote {beside}; install Graphviz, then: {again}")
        return False
    return _run_dot(program, explanation.graph, file)


def _run_dot(program: str, graph: str, file: Path) -> bool:
    """https://graphviz.org/doc/info/command.html."""
    command = [program, f"-T{_format(file)}", "-o", str(file)]
    try:
        done = subprocess.run(
            command,
            input=graph.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_DRAW_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        said = f"it took more than {_DRAW_SECONDS:g} s"
    else:
        if not done.returncode:
            return True
        said = done.stderr.decode("utf-8", "replace").strip() or f"it ended with exit code {done.returncode}"
    beside = file.with_suffix(".dot")
    _write(beside, graph)
    complain(f"Graphviz's dot did not draw {file}, but see {beside}: {said}")
    return False


def _format(file: Path) -> str:
    return file.suffix.lower().removeprefix(".")


def _write(file: Path, text: str) -> None:
    """Write a file.

    :raises ConfigurationError: if that is not possible.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        problem = ConfigurationError(f"{file} cannot be written: {error.strerror}", step="draw")
    else:
        return
    raise problem
