"""``weighbridge demo``."""

from __future__ import annotations

import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Final

import attrs
import click
from weighbridge_hookspecs import AdmissionRefused

from ..fabricate import write_distribution
from ..host import Host
from ..units import format_bytes
from .ending import exit_code, unload_all
from .output import complain, count, json_option, one_line, print_json, result_alone, say
from .show import report_lines, show_receipts, show_statement

_CEILING: Final = "128 MiB"
_ANVIL: Final = "anvil"
_MANIFEST: Final = """\
[plugin]
summary = "Too heavy on purpose"
[memory]
load = "512 MiB"
"""
_SOURCE: Final = "raise SystemExit('nobody may import this: it was not admitted')\n"


@attrs.frozen(kw_only=True)
class Refusal:
    """The refusal that is shown."""

    plugin: str
    message: str
    needs_bytes: int | None
    headroom_bytes: int | None
    advice: str | None
    imported: bool


@click.command(short_help="See all of it in a few seconds.")
@json_option
def demo(as_json: bool) -> int:
    """Load what is installed of Weighbridge's own plugins under 128 MiB, see one refused, and unload them with proof.

    \b
    Example:
      weighbridge demo
    """
    with tempfile.TemporaryDirectory(prefix="weighbridge-demo-") as folder:
        package = write_distribution(Path(folder), _ANVIL, _SOURCE, manifest=_MANIFEST)
        return _demonstrate([*sys.path, folder], package, as_json)


def _demonstrate(path: list[str], package: str, as_json: bool) -> int:
    tell = (lambda text: None) if as_json else say
    tracemalloc.start(1)  # over the unload as well, which tells what came back; the meter traces no more than the loads
    host = Host(_CEILING, path=path, meter="gate")
    with result_alone(as_json):
        try:
            ours = [one.name for one in host.discover().candidates if one.distribution.startswith("weighbridge-")]
            names = [name for name in ours if name != _ANVIL]
            if names:
                tell(f"Under a ceiling of {_CEILING}, {count(len(names), 'plugin')}: {', '.join(names)}.")
            else:
                tell("No plugin is installed. Install one, such as the example: pip install ./examples/lantern")
            refusal = _refused(host, package)
            tell(f"\nOne that is too heavy, the {_ANVIL}, is refused before it is imported:\n  {refusal.message}")
            report = host.load_all(names)
            statement = host.accounts()
            for line in report_lines(report):
                tell(one_line(line))
            if names and not as_json:
                say("\nWhat each of the others holds:\n")
                show_statement(statement)
        finally:
            ending = unload_all(host)
    if as_json:
        document = {"refusal": refusal, "report": report, "statement": statement, "receipts": ending.receipts}
        print_json({**document, "problems": ending.problems})
    elif ending.receipts:
        say("\nUnloaded, and weighed again:\n")
        show_receipts(ending.receipts)
        back = sum(receipt.reclaimed_bytes or 0 for receipt in ending.receipts)
        say(f"\n{format_bytes(back)} of Python's memory came back.")
    for problem in ending.problems:
        complain(problem)
    return 3 if refusal.imported else exit_code(attrs.evolve(report, refused=()), ending)


def _refused(host: Host, package: str) -> Refusal:
    try:
        host.load(_ANVIL)
    except AdmissionRefused as error:
        return Refusal(
            plugin=_ANVIL,
            message=str(error),
            needs_bytes=error.needs_bytes,
            headroom_bytes=error.headroom_bytes,
            advice=error.advice,
            imported=package in sys.modules,
        )
    raise AssertionError("the anvil was admitted")
