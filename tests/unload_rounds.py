"""Loads, uses and unloads one installed plugin again and again, and prints by how much the process grew, as JSON.

python -X tracemalloc=1 unload_rounds.py GROUP NAME ROUNDS
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
NAMES: Final = 90_000
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


def settle() -> None:
    """Bring the interpreter's table of names to the size that its entries ask for.

    It is built anew when it has no room left, for dead names, too, and its size then depends on how many live at that
    moment: half a MiB more or less, which is nobody's leak. After so many names it has just been built anew.
    """
    for number in range(NAMES):
        sys.intern(f"name {number} of nobody's")
    gc.collect()


def main(group: str, name: str, rounds: int) -> dict[str, Any]:
    """By how much the process has grown between the end of the warm-up and that of the rounds."""
    if not tracemalloc.is_tracing():
        raise SystemExit("run it with -X tracemalloc=1: what is replaced has to have been traced as well")
    host = Host(group=group)
    survivors = take_turns(host, name, WARM_UP)
    before = figures()
    survivors += take_turns(host, name, rounds)
    after = figures()
    return {
        "bytes_per_round": (after[0] - before[0]) / rounds,
        "threads": after[1] - before[1],
        "descriptors": after[2] - before[2],
        "survivors": survivors,
    }


def take_turns(host: Host, name: str, rounds: int) -> int:
    """Load, use and unload so many times; how much outlived its unload in all of them."""
    survivors = 0
    for _ in range(rounds):
        host.load(name)
        USES.get(name, lambda: use_lantern(host))()
        survivors += len(host.unload(name, dependencies=True, cut="all").survivors)
    return survivors


def figures() -> tuple[int, int, int]:
    """Traced bytes, threads and descriptors of the process."""
    settle()
    return tracemalloc.get_traced_memory()[0], threading.active_count(), psutil.Process().num_fds()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))), flush=True)
    os._exit(0)
