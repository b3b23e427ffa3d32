"""Which modules go with a plugin, and why the others stay."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from .callbacks import callback_of
from .compiled import obstacle
from .ownership import Kind, top_level
from .references import is_module, referenced

Reason: TypeAlias = Literal["shared", "dependency", "outside", "compiled", "threads", "callbacks", "declared"]
"""Why a module stays: another plugin uses it; it is a dependency that was not asked to go; something that is no plugin
refers to it; its distribution has a compiled module that cannot be loaded twice; or one that may have started threads
which Python does not know; it gave C code the address of a function of its; the plugin's manifest says that it cannot
go."""
_IN_USE: Final = frozenset({"shared", "outside"})
CANNOT_GO: Final[tuple[Reason, ...]] = ("compiled", "threads", "callbacks")
"""The process cannot let go of it, whoever brought it."""
_FAILURES: Final = frozenset({*CANNOT_GO, "declared"})


@attrs.frozen
class Stay:
    """Why one module stays."""

    reason: Reason
    detail: str = ""
    """Who uses it, who refers to it, or which module cannot be loaded twice and why."""

    @property
    def is_failure(self) -> bool:
        """Whether it was to go: then it counts against the share that came back, and stays on the plugin's account."""
        return self.reason in _FAILURES

    @property
    def words(self) -> str:
        """The reason with its detail, for people."""
        return f"{self.reason}: {self.detail}" if self.detail else self.reason

    def __str__(self) -> str:
        return self.reason


UNASKED: Final = Stay("dependency", "dependencies were not asked to go")
DECLARED: Final = Stay("declared", "its manifest says that it cannot be unloaded before the process ends")


@attrs.frozen
class Departure:
    """Which modules go with a plugin, and which of those that it used stay, and why."""

    dropped: tuple[str, ...]
    kept: Mapping[str, Stay]
    excused_bytes: int = 0
    """Traced bytes that its load brought in and that rightly stay, less those dropped that other loads brought in."""
    stdlib_bytes: int | None = 0
    """Of those, of modules of the standard library. None if its load brought some in and none was measured."""
    stuck_bytes: int | None = 0
    """Traced bytes of modules that its load brought in, that were to go and cannot; None likewise."""

    @property
    def left(self) -> tuple[str, ...]:
        """Those that nobody uses any more, whether they go or not."""
        return (*self.dropped, *(name for name, stay in self.kept.items() if stay.reason not in _IN_USE))

    @property
    def compiled(self) -> tuple[str, ...]:
        """Those that were to go and cannot, for what is compiled."""
        return self._because(*CANNOT_GO)

    @property
    def declared(self) -> tuple[str, ...]:
        """Those that stay because the manifest says so."""
        return self._because("declared")

    def _because(self, *reasons: Reason) -> tuple[str, ...]:
        return tuple(sorted(name for name, stay in self.kept.items() if stay.reason in reasons))


@attrs.frozen
class Idle:
    """A module that no plugin uses any more."""

    kind: Kind
    group: str
    """What goes and stays together: the distribution, or the package where that is not known."""
    native_threads: int = 0
    """How many threads that Python does not know came with its load, and still run."""


def staying(idle: Mapping[str, Idle], used: Mapping[str, str], *, dependencies: bool) -> dict[str, Stay]:
    """Why modules stay that no plugin uses any more; those that are not named can go.

    A group goes whole or stays whole. The Python part of a compiled library must not be loaded anew beside its old
    compiled part, which goes on handing out objects of the old classes.

    :param used: groups of which another plugin uses a part, and the name of that plugin.
    :param dependencies: whether more than the plugin's own modules are to go.
    """
    own = {name for name, one in idle.items() if one.kind == "own"}
    groups = _stuck(idle, set(idle) if dependencies else own)
    stays = {name: groups[idle[name].group] for name in own if idle[name].group in groups}
    optional = {name: one for name, one in idle.items() if one.kind != "own"}
    if not dependencies:
        return stays | dict.fromkeys(optional, UNASKED)
    for group, plugin in used.items():
        groups.setdefault(group, Stay("shared", f"{plugin} uses another part of {group}"))
    # what the standard library holds of a dependency was put there, and is cut
    outside = {name for name in list(sys.modules) if top_level(name) not in sys.stdlib_module_names}
    for name, other in _references(outside - set(idle)):
        if other in optional:
            groups.setdefault(optional[other].group, Stay("outside", f"{name} refers to it"))
    _follow(groups, idle, optional)
    return stays | {name: groups[one.group] for name, one in optional.items() if one.group in groups}


def _stuck(idle: Mapping[str, Idle], names: set[str]) -> dict[str, Stay]:
    """Groups with something that cannot go. Callbacks of the plugin's own are kept one by one: that is a tie."""
    stuck: dict[str, Stay] = {}
    for name in sorted(names):
        why = obstacle(sys.modules.get(name))
        if why is not None:
            stuck.setdefault(idle[name].group, Stay("compiled", f"{name} {why}"))
    for name in sorted(name for name in names if idle[name].native_threads):
        count = idle[name].native_threads
        detail = f"{name} came with {count} {'threads' if count > 1 else 'thread'} that Python cannot stop"
        stuck.setdefault(idle[name].group, Stay("threads", detail))
    for name in sorted(name for name in names if idle[name].kind != "own"):
        callback = callback_of(sys.modules.get(name))
        if callback is not None:
            detail = f"C code may have the address of {name}.{callback}"
            stuck.setdefault(idle[name].group, Stay("callbacks", detail))
    return stuck


def _follow(groups: dict[str, Stay], idle: Mapping[str, Idle], optional: Mapping[str, Idle]) -> None:
    """What a group that stays refers to stays, too, for the same reason."""
    members: dict[str, set[str]] = {}
    for name, one in idle.items():
        members.setdefault(one.group, set()).add(name)
    waiting = list(groups)
    while waiting:
        group = waiting.pop()
        for name, other in _references(members.get(group, set())):
            if other in optional and optional[other].group not in groups:
                detail = f"{name} refers to it, which stays as {groups[group].detail}"
                groups[optional[other].group] = attrs.evolve(groups[group], detail=detail)
                waiting.append(optional[other].group)


def _references(names: set[str]) -> Iterator[tuple[str, str]]:
    """Each of these modules with the name of each module that it refers to."""
    for name, module in list(sys.modules.items()):
        if name in names and is_module(module):
            for other in referenced(module):
                yield name, other
