"""``weighbridge doctor``."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

import attrs
import click
from weighbridge_hookspecs import Fact

from ..accounting.process import can_trim
from ..host import Host
from ..limits import OutsideLimits
from ..units import format_bytes
from .ending import exit_code, unload_all
from .output import complain, group_option, json_option, one_line, print_json, print_table, result_alone, say
from .show import report_lines

_HOOK = "weighbridge_examine"
_HOST = "host"


@attrs.frozen(kw_only=True)
class Diagnosis:
    """What one of those who were asked says."""

    by: str
    """The plugin, or ``host``."""
    subject: str
    finding: str | None
    evidence: str


@click.command(short_help="What this machine offers, and how that is known.")
@group_option
@json_option
def doctor(group: str, as_json: bool) -> int:
    """Say what this machine offers to plugins, and which file, register or call says so.

    The host knows of limits of containers. Hypervisors, balloons, sources of pressure, NUMA and huge pages are known to
    plugins: those whose manifest lists the hook weighbridge_examine are loaded, asked, and unloaded again.

    \b
    Example:
      weighbridge doctor --json
    """
    host = Host(group=group)
    with result_alone(as_json):
        try:
            found = host.discover()
            names = [one.name for one in found.candidates if one.manifest and _HOOK in one.manifest.hooks]
            report = host.load_all(names)
            facts = [Diagnosis(by=_HOST, **attrs.asdict(fact)) for fact in _known()]
            facts += [Diagnosis(by=name, **attrs.asdict(fact)) for name, fact in host.examine()]
        finally:
            ending = unload_all(host)
    if as_json:
        print_json({"facts": facts, "report": report, "problems": ending.problems})
    else:
        print_table(("subject", "found", "by", "how it is known"), [_row(fact) for fact in facts])
        if not names:
            say("\nNo plugin that could tell more is installed, such as weighbridge-balloon and weighbridge-numa.")
        for line in report_lines(report):
            complain(line)
    for problem in ending.problems:
        complain(problem)
    return exit_code(report, ending)


def _row(fact: Diagnosis) -> tuple[str, str, str, str]:
    finding = "unknown" if fact.finding is None else fact.finding
    return fact.subject, one_line(finding), fact.by, one_line(fact.evidence)


def _known() -> Iterator[Fact]:
    """What the host knows by itself."""
    yield Fact(subject="system", finding=f"{platform.system()} {platform.release()}", evidence="uname")
    yield Fact(subject="python", finding=platform.python_version(), evidence=sys.version.partition("\n")[0])
    limit = OutsideLimits().lowest()
    if limit is None:
        yield Fact(subject="memory limit", finding="none", evidence="no control group around this process sets one")
    else:
        yield Fact(subject="memory limit", finding=format_bytes(limit.nbytes), evidence=limit.source)
    trims = can_trim()
    finding = "can be handed back" if trims else "stays with the process"
    evidence = "the C library has malloc_trim" if trims else "the C library has no malloc_trim"
    yield Fact(subject="freed memory", finding=finding, evidence=evidence)
