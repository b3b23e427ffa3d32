"""The command line: a module for each command, and the only place that prints."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        sys.exit(f"weighbridge: the command line needs {error.name}. Install it: pip install 'weighbridge[cli]'")
    from .app import run

    sys.exit(run())
