"""Whose bytes are these: every traced block, by the innermost plugin frame of its traceback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

T = TypeVar("T")

SHARED: Final = "\0shared"
"""Owner of the files of modules that several plugins use."""
_HOST: Final = "<weighbridge itself>"


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


def _compiled_for_host() -> Callable[[Callable[[], None]], None]:
    scope: dict[str, Any] = {}
    exec(compile("def run(call):\n    call()\n", _HOST, "exec"), scope)
    run: Callable[[Callable[[], None]], None] = scope["run"]
    return run


run_untagged: Final = _compiled_for_host()
"""Call something under a frame that shields it from those around it: what it allocates is no plugin's."""


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
    """The innermost plugin; else SHARED if a shared module is on the way, else None, as for the host's own work."""
    shared = None
    for frame in reversed(traceback):
        if frame.filename == _HOST:
            break
        owner = owners.get(frame.filename)
        if owner == SHARED:
            shared = SHARED
        elif owner is not None:
            return owner
    return shared
