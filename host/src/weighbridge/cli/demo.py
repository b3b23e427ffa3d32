"""``weighbridge demo``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

import click
from weighbridge_hookspecs import AdmissionRefused

from ..fabricate import write_distribution
from ..host import Host
from ..units import format_bytes
from .output import json_option, print_json
from .show import show_receipts, show_report, show_statement

_CEILING: Final = "128 MiB"
_ANVIL: Final = "anvil"
_MANIFEST: Final = """\
[plugin]
summary = "Too heavy on purpose"
[memory]
load = "512 MiB"
"""
_SOURCE: Final = "raise SystemExit('nobody may import this: it was not admitted')\n"


@click.command()
@json_option
def demo(as_json: bool) -> int:
    """Load the first-party plugins and the example under 128 MiB, see one refused, and unload them with proof.

    \b
    Example:
      weighbridge demo
    """
    with tempfile.TemporaryDirectory(prefix="weighbridge-demo-") as folder:
        package = write_distribution(Path(folder), _ANVIL, _SOURCE, manifest=_MANIFEST)
        return _demonstrate([*sys.path, folder], package, as_json)


def _demonstrate(path: list[str], package: str, as_json: bool) -> int:
    say = (lambda text: None) if as_json else click.echo
    host = Host(_CEILING, path=path, meter="trace")
    try:
        names = [one.name for one in host.discover().candidates if one.distribution.startswith("weighbridge-")]
        say(f"Under a ceiling of {_CEILING}, {len(names)} plugins: {', '.join(names)}.\n")
        refusal = _refused(host)
        say(f"A plugin that is too heavy is refused before it is imported:\n  {refusal}")
        say(f"  imported: {'yes' if package in sys.modules else 'no'}\n")
        report = host.load_all([name for name in names if name != _ANVIL])
        statement = host.accounts()
        if not as_json:
            show_report(report)
            show_statement(statement)
    finally:
        host.close()
    receipts = [host.receipts[one.name] for one in reversed(report.loaded)]
    if as_json:
        print_json({"refusal": refusal, "report": report, "statement": statement, "receipts": receipts})
    else:
        say("\nUnloaded, and weighed again:\n")
        show_receipts(receipts)
        back = sum(receipt.reclaimed_bytes or 0 for receipt in receipts)
        say(f"\n{format_bytes(back)} came back.")
    if report.failed or package in sys.modules:
        return 3
    return 1 if any(receipt.state == "stranded" for receipt in receipts) else 0


def _refused(host: Host) -> str:
    try:
        host.load(_ANVIL)
    except AdmissionRefused as error:
        return str(error)
    return "it was admitted, which is a fault of this program"
