"""``weighbridge list``."""

from __future__ import annotations

import attrs
import click
from weighbridge_hookspecs import Candidate

from ..admission.weights import Weight, Weights
from ..host import Host
from ..lifecycle.report import Outcome
from .output import complain, group_option, json_option, print_json, print_table, say, size


@attrs.frozen(kw_only=True)
class Listed:
    """One plugin that is installed."""

    name: str
    distribution: str
    version: str
    group: str
    value: str
    summary: str | None
    declared_load_bytes: int | None
    declared_peak_bytes: int | None
    weighed_bytes: int | None
    """What admission would estimate by the last weighing; None if it was never weighed."""
    state: str
    reason: str


@click.command("list", short_help="List the plugins that are installed.")
@group_option
@json_option
def list_(group: str, as_json: bool) -> int:
    """List the plugins that are installed, without importing any of them.

    Declared is what its manifest says that loading takes, at peak what it promises never to exceed, and weighed what
    the last `weighbridge weigh` found, by which admission goes first.

    \b
    Example:
      weighbridge list --group mkdocs.plugins
    """
    with Host(group=group) as host:
        found = host.discover()
        states = {outcome.name: outcome for outcome in host.plugins()}
    weights = Weights()
    plugins = [_listed(candidate, states[candidate.name], weights.get(candidate)) for candidate in found.candidates]
    if as_json:
        print_json({"plugins": plugins, "problems": found.problems})
    elif not plugins:
        say(f"no plugin is installed in the group {group!r}")
    else:
        print_table(
            ("plugin", "distribution", ">declared", ">at peak", ">weighed", "state"),
            [
                (
                    plugin.name,
                    f"{plugin.distribution} {plugin.version}",
                    size(plugin.declared_load_bytes),
                    size(plugin.declared_peak_bytes),
                    size(plugin.weighed_bytes),
                    f"{plugin.state}: {plugin.reason}" if plugin.reason else plugin.state,
                )
                for plugin in plugins
            ],
        )
    for problem in found.problems:
        complain(problem)
    return 3 if found.problems else 0


def _listed(candidate: Candidate, outcome: Outcome, weight: Weight | None) -> Listed:
    manifest = candidate.manifest
    return Listed(
        name=candidate.name,
        distribution=candidate.distribution,
        version=candidate.version,
        group=candidate.group,
        value=candidate.value,
        summary=manifest.summary if manifest else None,
        declared_load_bytes=manifest.load_bytes if manifest else None,
        declared_peak_bytes=manifest.peak_bytes if manifest else None,
        weighed_bytes=weight.estimate_bytes if weight else None,
        state=outcome.state,
        reason=outcome.reason,
    )
