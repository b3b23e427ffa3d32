"""Holds a machine until it is interrupted: python -m vm.hold ROOT KERNEL INITRD

Prints one line of JSON as soon as the machine is there: the process that is QEMU, and the folder of the machine.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from .image import Image
from .machine import machine

if __name__ == "__main__":
    with machine(Image(*map(Path, sys.argv[1:]))) as held:
        print(json.dumps({"pid": held.process.pid, "folder": str(held.folder)}), flush=True)
        threading.Event().wait()
