"""``weighbridge weigh``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from ..admission.weights import Weights
from ..host import Host
from ..units import format_bytes
from ..weighing.records import Weighing
from ..weighing.ties import holders, kinds
from ..weighing.weigh import remember
from ..weighing.weigh import weigh as weigh_one
from .config import config_option, read_config
from .output import (
    complain,
    count,
    group_option,
    json_option,
    one_line,
    print_json,
    print_table,
    progress,
    say,
    seconds,
    share,
)

_HOLDERS: Final = 3


@click.command(short_help="Weigh plugins, each in a fresh interpreter.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@group_option
@click.option(
    "--rounds",
    default=1,
    show_default=True,
    metavar="N",
    type=click.IntRange(1),
    help="How often each is timed; the median counts.",
)
@click.option(
    "--timeout",
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="For each interpreter.",
)
@click.option("--save/--no-save", default=True, show_default=True, help="Keep the weights for admission.")
@config_option
@json_option
def weigh(
    names: tuple[str, ...], group: str, rounds: int, timeout: float, save: bool, config: Path | None, as_json: bool
) -> int:
    """Weigh plugins, each in a fresh interpreter: what does it bring in, and what comes back when it goes?

    Without a NAME all plugins of the group are weighed. Import and resident are taken without tracing, traced and
    reclaimed with it. The weights are kept in the user's cache folder (or in WEIGHBRIDGE_CACHE), where admission finds
    them.

    \b
    Example:
      weighbridge weigh --group pytest11 --rounds 3
    """
    settings = read_config(config).plugins
    with Host(group=group) as host:
        found = host.discover()
        chosen = [host.candidate(name) for name in dict.fromkeys(names)] if names else list(found.candidates)
    weighings: list[Weighing] = []
    unsaved: OSError | None = None
    weights = Weights()
    with progress("weighing", len(chosen)) as step:
        for candidate in chosen:
            step(candidate.name)
            weighing = weigh_one(
                candidate, rounds=rounds, timeout_seconds=timeout, settings=settings.get(candidate.name)
            )
            weighings.append(weighing)
            if save and unsaved is None:
                try:
                    remember(candidate, weighing, weights)
                except OSError as error:
                    unsaved = error
    if unsaved is not None:
        complain(f"the weights cannot be kept in {weights.folder}: {unsaved.strerror}", kind="warning")
    problems = () if names else found.problems
    if as_json:
        print_json({"plugins": weighings, "problems": problems})
    else:
        _show(weighings, group)
    for problem in problems:
        complain(problem)
    if problems or any(weighing.status != "ok" for weighing in weighings):
        return 3
    return 1 if any(weighing.survivors for weighing in weighings) else 0


def _show(weighings: Sequence[Weighing], group: str) -> None:
    if not weighings:
        say(f"no plugin is installed in the group {group!r}")
        return
    columns = ("plugin", ">import", ">traced", ">resident", ">modules", ">reclaimed", ">share", "survivors")
    print_table(columns, [_row(weighing) for weighing in weighings])
    _show_what_stayed(weighings)
    for weighing in weighings:
        if weighing.error:
            error = one_line(weighing.error).removeprefix(f"{weighing.name}: ")
            complain(f"{weighing.name} {_ENDED[weighing.status]}: {error}")


_ENDED: Final = {"ok": "was weighed", "failed": "failed", "crashed": "crashed", "timeout": "hung"}


def _row(weighing: Weighing) -> tuple[str, ...]:
    unloaded = weighing.reclaimed_share is not None or weighing.status == "ok"
    return (
        weighing.name,
        "-" if weighing.import_seconds is None else seconds(weighing.import_seconds),
        "-" if weighing.traced_bytes is None else format_bytes(weighing.traced_bytes),
        "-" if weighing.resident_bytes is None else format_bytes(weighing.resident_bytes),
        "-" if weighing.modules is None else str(weighing.modules),
        format_bytes(weighing.reclaimed_bytes) if unloaded else "-",
        share(weighing.reclaimed_share) if unloaded else "-",
        weighing.status if weighing.status != "ok" else str(len(weighing.survivors) or "none"),
    )


def _show_what_stayed(weighings: Sequence[Weighing]) -> None:
    """What survived, by what keeps it. Plugins that left the same behind are named together."""
    same: dict[tuple[str, str], list[str]] = {}
    for weighing in weighings:
        if weighing.survivors:
            same.setdefault(_stayed(weighing), []).append(weighing.name)
    if same:
        say()
        print_table(
            ("plugin", "what stayed", "how many, and what keeps them"),
            [(", ".join(names), *what) for what, names in same.items()],
        )
        say("\nThe way from each survivor to what keeps it: --json")


def _stayed(weighing: Weighing) -> tuple[str, str]:
    what = ", ".join(count(number, kind) for kind, number in kinds(weighing.survivors))
    every = holders(weighing.survivors)
    why = [f"{number}: {name}" for name, number in every[:_HOLDERS]]
    if rest := every[_HOLDERS:]:
        why.append(f"{sum(number for _, number in rest)}: others")
    return what, "; ".join(why)
