"""The command line: a module for each command, and the only place that prints."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line and exit."""
    _fill_standard_descriptors()
    if missing := [name for name in ("click", "rich") if find_spec(name) is None]:
        needs = " and ".join(missing)
        sys.exit(f"weighbridge: the command line needs {needs}. Install it: pip install 'weighbridge[cli]'")
    try:
        from .app import run

        sys.exit(run())
    except KeyboardInterrupt:  # before or after the commands handle it themselves
        sys.exit(130)


def _fill_standard_descriptors() -> None:
    """Where one was closed, the next file to be opened would get its number, and what a plugin prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
