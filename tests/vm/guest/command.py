"""The command line, as a process of its own."""

from __future__ import annotations

import subprocess
import sys

from .agent import Line


def doctor(line: Line) -> str:
    """What ``weighbridge doctor --json`` says of this machine."""
    program = "import sys; from weighbridge.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "doctor", "--json"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
