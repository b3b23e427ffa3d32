"""Whose bytes are these: every traced block, by the innermost plugin frame of its traceback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

T = TypeVar("T")

SHARED: Final = "\0shared"
"""Owner of the files of modules that several plugins use."""


@attrs.frozen(kw_only=True)
class Attribution:
    """Traced bytes held now, split by owner. The parts add up to what tracemalloc knows of."""

    by_plugin: Mapping[str, int]
    shared_bytes: int
    unattributed_bytes: int


def tag(plugin: str) -> str:
    """The file name of the frame under which everything done for `plugin` at its load runs.

    A plugin's first module is unmarshalled under the frames of importlib alone; without this frame below them its
    code objects would belong to nobody.
    """
    return f"<weighbridge load of {plugin}>"


def run_tagged(plugin: str, call: Callable[[], T]) -> T:
    """Call `call` under the frame of :func:`tag`."""
    scope: dict[str, Any] = {}
    exec(compile("def run(call):\n    return call()\n", tag(plugin), "exec"), scope)
    result: T = scope["run"](call)
    return result


def attribute(owners: Mapping[str, str]) -> Attribution:
    """Walk every traced block; takes about a second per million blocks.

    :param owners: file name to plugin, or to :data:`SHARED`.
    """
    import tracemalloc

    totals: Counter[str | None] = Counter()
    # grouping by traceback first: one walk for all blocks that were allocated at the same place
    for group in tracemalloc.take_snapshot().statistics("traceback"):
        totals[_owner(group.traceback, owners)] += group.size
    shared, rest = totals.pop(SHARED, 0), totals.pop(None, 0)
    return Attribution(
        by_plugin={plugin: size for plugin, size in totals.items() if plugin is not None},
        shared_bytes=shared,
        unattributed_bytes=rest,
    )


def _owner(traceback: Sequence[Any], owners: Mapping[str, str]) -> str | None:
    """The innermost plugin; else SHARED if a shared module is on the way, else None."""
    shared = None
    for frame in reversed(traceback):
        owner = owners.get(frame.filename)
        if owner == SHARED:
            shared = SHARED
        elif owner is not None:
            return owner
    return shared
