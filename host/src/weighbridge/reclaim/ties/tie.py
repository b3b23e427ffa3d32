"""What every tie has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Literal, TypeAlias

import attrs

from ..belongings import Belongings

Outcome: TypeAlias = Literal["found", "cut", "left", "failed"]
Cut: TypeAlias = Literal["safe", "all", "none"]
"""Which ties to cut: those that cannot disturb others, all of them, or none; they are found and named in any case."""


@attrs.frozen(kw_only=True)
class Finding:
    """One place that holds something of a plugin's: names only, never an object."""

    tie: str
    place: str
    """As one would write it in Python: ``logging.root.handlers[2]``."""
    held: str
    """What is held there."""
    outcome: Outcome = "found"
    note: str = ""
    """Why it was left, what went wrong, or what else was cut along."""


@attrs.frozen(kw_only=True)
class Hold:
    """One place that holds something of a plugin's, with the way to let go of it. Lives no longer than one cutting."""

    place: str
    held: str
    cut: Callable[[], object] | None
    """None: it cannot be cut, and `note` says why."""
    note: str = ""


class Tie:
    """One way of being kept alive."""

    name: ClassVar[str]
    sentence: ClassVar[str]
    """For people: what happened, and what the author of the plugin can do about it."""
    safe: ClassVar[bool] = True
    """Whether cutting it cannot disturb the application and other plugins, which go on running."""
    kinds: ClassVar[tuple[type, ...]] = ()
    """Exact types of objects on the heap that it looks at, as ``belongings.heap[kind]``."""

    def wanted(self) -> Iterable[type]:
        """`kinds`, and those that exist only since somebody has imported their module: never import it to look."""
        return self.kinds

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Every place of this kind that holds something of `belongings`, and nothing that belongs to others."""
        raise NotImplementedError

    def find(self, belongings: Belongings) -> tuple[Finding, ...]:
        """The same, as names."""
        try:
            return tuple(self._finding(hold, "found", hold.note) for hold in self.holds(belongings))
        except Exception as error:
            return (self._lost(error),)

    def cut(self, finding: Finding, belongings: Belongings) -> Finding:
        """Let go of what `finding` names, if it is still there; how that went."""
        for hold in list(self.holds(belongings)):
            if (hold.place, hold.held) == (finding.place, finding.held):
                return self._cut(hold)
        return attrs.evolve(finding, outcome="left", note="it was gone already")

    def cut_all(self, belongings: Belongings, *, unsafe: bool) -> tuple[Finding, ...]:
        """Let go of everything that is found; how that went. A failing one does not stop the next.

        :param unsafe: also where it could disturb others.
        """
        try:
            found = list(self.holds(belongings))
        except Exception as error:  # strangers may have put anything into a registry, or in its place
            return (self._lost(error),)
        if not self.safe and not unsafe:
            return tuple(self._finding(hold, "left", hold.note or _UNSAFE) for hold in found)
        return tuple(self._cut(hold) for hold in found)

    def _cut(self, hold: Hold) -> Finding:
        if hold.cut is None:
            return self._finding(hold, "left", hold.note)
        try:
            hold.cut()
        except Exception as error:  # a registry may have been replaced by anything
            return self._finding(hold, "failed", f"raised {type(error).__name__}")
        return self._finding(hold, "cut", hold.note)

    def _lost(self, error: Exception) -> Finding:
        note = f"the search raised {type(error).__name__}"
        return Finding(tie=self.name, place="?", held="?", outcome="failed", note=note)

    def _finding(self, hold: Hold, outcome: Outcome, note: str) -> Finding:
        return Finding(tie=self.name, place=hold.place, held=hold.held, outcome=outcome, note=note)


_UNSAFE = "cutting it may disturb others; unload with cut='all' to cut it all the same"
