"""``weighbridge list``."""

from __future__ import annotations

import click

from ..admission.weights import Weights
from ..host import Host
from ..units import format_bytes
from .output import group_option, json_option, print_json, print_table


@click.command("list")
@group_option
@json_option
def list_(group: str, as_json: bool) -> int:
    """List the plugins that are installed, without importing any of them.

    \b
    Example:
      weighbridge list --group mkdocs.plugins
    """
    with Host(group=group) as host:
        found = host.discover()
        states = {outcome.name: outcome for outcome in host.plugins()}
    weights = Weights()
    plugins: list[dict[str, object]] = []
    for candidate in found.candidates:
        weight, manifest = weights.get(candidate), candidate.manifest
        plugins.append(
            {
                "name": candidate.name,
                "distribution": candidate.distribution,
                "version": candidate.version,
                "group": candidate.group,
                "value": candidate.value,
                "summary": manifest.summary if manifest else None,
                "declared_load_bytes": manifest.load_bytes if manifest else None,
                "declared_peak_bytes": manifest.peak_bytes if manifest else None,
                "weighed_bytes": weight.estimate_bytes if weight else None,
                "state": states[candidate.name].state,
                "reason": states[candidate.name].reason,
            }
        )
    if as_json:
        print_json({"plugins": plugins, "problems": found.problems})
    else:
        _show(plugins, group)
        for problem in found.problems:
            click.echo(f"problem: {problem}", err=True)
    return 3 if found.problems else 0


def _show(plugins: list[dict[str, object]], group: str) -> None:
    if not plugins:
        click.echo(f"no plugin is installed in the group {group!r}")
        return
    rows = [
        (
            str(plugin["name"]),
            f"{plugin['distribution']} {plugin['version']}",
            _size(plugin["declared_load_bytes"]),
            _size(plugin["declared_peak_bytes"]),
            _size(plugin["weighed_bytes"]),
            f"{plugin['state']}: {plugin['reason']}" if plugin["reason"] else str(plugin["state"]),
        )
        for plugin in plugins
    ]
    print_table(("plugin", "distribution", ">declared load", ">declared peak", ">weighed", "state"), rows)


def _size(nbytes: object) -> str:
    return format_bytes(nbytes) if isinstance(nbytes, int) else "-"
