"""Leaves a hook in readline, where the bystander has another one."""

from __future__ import annotations

import gc
import readline
from typing import Any

TIE = "readline"

calls: list[int] = []


def hook(*arguments: Any) -> Any:
    calls.append(1)
    return 0


if __name__.rpartition(".")[2] == "leaver":
    readline.set_pre_input_hook(hook)
    readline.set_completion_display_matches_hook(hook)
else:
    readline.set_startup_hook(hook)
    readline.set_completer(hook)


def intact() -> object:
    return sum(held is hook for held in gc.get_referents(readline))
