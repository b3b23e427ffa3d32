"""``weighbridge weigh``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from weighbridge_hookspecs import Candidate

from ..admission.weights import Weights
from ..host import Host
from ..units import format_bytes
from ..weighing.records import Weighing
from ..weighing.weigh import remember
from ..weighing.weigh import weigh as weigh_one
from .config import config_option, read_config
from .output import group_option, json_option, print_json, print_table, progress, seconds, share


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@group_option
@click.option(
    "--rounds", default=1, show_default=True, type=click.IntRange(1), help="Timings of each; the median counts."
)
@click.option(
    "--timeout", default=120.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Seconds for each."
)
@click.option("--save/--no-save", default=True, show_default=True, help="Keep the weights for admission.")
@config_option
@json_option
def weigh(
    names: tuple[str, ...], group: str, rounds: int, timeout: float, save: bool, config: Path | None, as_json: bool
) -> int:
    """Weigh plugins, each in a fresh interpreter: what does it bring in, and what comes back when it goes?

    Without a NAME all plugins of the group are weighed. The weights are kept in the user's cache folder (or in
    WEIGHBRIDGE_CACHE), where admission finds them.

    \b
    Example:
      weighbridge weigh --group pytest11 --rounds 3
    """
    settings = read_config(config).plugins
    with Host(group=group) as host:
        found = host.discover()
        chosen = [host.candidate(name) for name in names] if names else list(found.candidates)
    weighings, weights = [], Weights()
    with progress("weighing", len(chosen)) as step:
        for candidate in chosen:
            step(candidate.name)
            weighing = weigh_one(
                candidate, rounds=rounds, timeout_seconds=timeout, settings=settings.get(candidate.name)
            )
            weighings.append(weighing)
            if save:
                _save(candidate, weighing, weights)
    if as_json:
        print_json({"plugins": weighings, "problems": found.problems})
    else:
        _show(weighings, group)
        for problem in found.problems:
            click.echo(f"problem: {problem}", err=True)
    if any(weighing.status != "ok" for weighing in weighings) or (found.problems and not names):
        return 3
    return 1 if any(weighing.survivors for weighing in weighings) else 0


def _save(candidate: Candidate, weighing: Weighing, weights: Weights) -> None:
    try:
        remember(candidate, weighing, weights)
    except OSError as error:
        click.echo(f"warning: the weight of {candidate.name} could not be kept: {error}", err=True)


def _show(weighings: Sequence[Weighing], group: str) -> None:
    if not weighings:
        click.echo(f"no plugin is installed in the group {group!r}")
        return
    columns = (
        "plugin",
        "distribution",
        ">import",
        ">traced",
        ">resident",
        ">modules",
        ">reclaimed",
        ">share",
        "survivors",
    )
    print_table(columns, [_row(weighing) for weighing in weighings])
    for weighing in weighings:
        if weighing.error:
            click.echo(f"\n{weighing.name} {weighing.status}: {weighing.error}")


def _row(weighing: Weighing) -> tuple[str, ...]:
    distribution = f"{weighing.distribution} {weighing.version}"
    if weighing.status != "ok":
        return (weighing.name, distribution, *["-"] * 6, weighing.status)
    return (
        weighing.name,
        distribution,
        seconds(weighing.import_seconds),
        format_bytes(weighing.traced_bytes),
        format_bytes(weighing.resident_bytes),
        str(weighing.modules),
        format_bytes(weighing.reclaimed_bytes),
        share(weighing.reclaimed_share),
        _survivors(weighing),
    )


def _survivors(weighing: Weighing) -> str:
    if not weighing.survivors:
        return "none"
    kinds = Counter(one.kind for one in weighing.survivors)
    tie, count = Counter(one.tie for one in weighing.survivors).most_common(1)[0]
    tie = tie if len(tie) <= 60 else tie[:57] + "..."
    return f"{', '.join(f'{kinds[kind]} {kind}' for kind in sorted(kinds))}; {count} by {tie}"
