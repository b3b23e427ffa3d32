"""Loads, uses and unloads one installed plugin again and again, and prints by how much the process grew, as JSON.

python unload_rounds.py GROUP NAME ROUNDS
"""

from __future__ import annotations

import ast
import gc
import json
import os
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

import psutil

from weighbridge.host import Host

WARM_UP: Final = 5
INTERNED: Final = 90_000
"""The interpreter's table of names doubles now and then, and never shrinks: it is made big beforehand."""
SOURCE: Final = "import os\n\n\ndef f(a, b=[]):\n    for i in range(3):\n        print(i, a, b)\n"


def use_bugbear() -> object:
    """Check a piece of code."""
    checker = sys.modules["bugbear"].BugBearChecker(
        tree=ast.parse(SOURCE), filename="x.py", lines=SOURCE.splitlines(keepends=True)
    )
    return list(checker.run())


def use_mccabe() -> object:
    """Measure a piece of code."""
    visitor = sys.modules["mccabe"].PathGraphingAstVisitor()
    visitor.preorder(ast.parse(SOURCE), visitor)
    return list(visitor.graphs)


def use_markdown() -> object:
    """Convert a table."""
    markdown: Any = sys.modules["markdown"]
    return markdown.markdown(
        "a | b\n--|--\n1 | 2\n", extensions=[sys.modules["markdown.extensions.tables"].TableExtension()]
    )


def use_lantern(host: Host) -> object:
    """Ask it for its memory."""
    return host.account("lantern")


USES: Final[dict[str, Callable[[], object]]] = {"B": use_bugbear, "C90": use_mccabe, "tables": use_markdown}


def main(group: str, name: str, rounds: int) -> dict[str, Any]:
    """Figures of the process after each of the rounds, the first ones left out."""
    for number in range(INTERNED):
        sys.intern(f"name {number} of nobody's")
    tracemalloc.start(1)
    host = Host(group=group)
    process = psutil.Process()
    figures = []
    survivors = 0
    for _ in range(WARM_UP + rounds):
        host.load(name)
        USES.get(name, lambda: use_lantern(host))()
        receipt = host.unload(name, dependencies=True, cut="all")
        survivors += len(receipt.survivors)
        del receipt
        gc.collect()
        figures.append((tracemalloc.get_traced_memory()[0], threading.active_count(), process.num_fds()))
    first, last = figures[WARM_UP - 1], figures[-1]
    return {
        "bytes_per_round": (last[0] - first[0]) / rounds,
        "threads": last[1] - first[1],
        "descriptors": last[2] - first[2],
        "survivors": survivors,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))), flush=True)
    os._exit(0)
