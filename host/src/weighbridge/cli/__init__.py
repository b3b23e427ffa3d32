"""The command line: a module for each command, and the only place that prints."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit."""
    _fill_standard_descriptors()
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        sys.exit(f"weighbridge: the command line needs {error.name}. Install it: pip install 'weighbridge[cli]'")
    from .app import run

    sys.exit(run())


def _fill_standard_descriptors() -> None:
    """Where one was closed, the next file to be opened would get its number, and what a plugin prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
