"""Loading many plugins: one that cannot come in does not stop the others."""

from __future__ import annotations

from collections.abc import Iterable

from weighbridge_hookspecs import AdmissionDeferred, AdmissionRefused, WeighbridgeError

from .arrivals import Arrivals
from .finder import Finder
from .plugin import Plugin
from .report import LoadReport, Outcome
from .roster import Roster
from .states import HELD, State
from .turn import Turn


class Batch:
    """Loads plugins in the order of what they require, and reports on each."""

    def __init__(self, turn: Turn, finder: Finder, roster: Roster, arrivals: Arrivals) -> None:
        self.turn = turn
        self.finder = finder
        self.roster = roster
        self.arrivals = arrivals

    def load(self, names: Iterable[str] | None, *, strict: bool, defer: bool) -> LoadReport:
        """Load those called `names` and what they require, or all; what is loaded already is left alone.

        :param strict: raise the first error instead of going on with the next plugin.
        :raises UnknownPlugin: if there is no plugin of one of `names`.
        """
        report: dict[str, list[Outcome]] = {
            heading: [] for heading in ("loaded", "dormant", "deferred", "refused", "failed")
        }
        with self.turn.lock:
            for plugin in self._chosen(names):
                if plugin.state in HELD | {State.DORMANT}:
                    continue
                heading, outcome = self._try(plugin, strict=strict, defer=defer)
                report[heading].append(outcome)
        report["failed"] += [] if names is not None else self._broken(strict)
        return LoadReport(**{heading: tuple(outcomes) for heading, outcomes in report.items()})

    def _chosen(self, names: Iterable[str] | None) -> list[Plugin]:
        """The plugins to load, in order."""
        self.finder.discover_once()
        ordered = self.roster.in_order()
        if names is None:
            return ordered
        wanted = [self.finder.find(name) for name in names]
        for plugin in list(wanted):
            if not self.roster.is_unresolved(plugin):
                wanted += self.roster.requirements(plugin)
        return [plugin for plugin in ordered if plugin in wanted]

    def _broken(self, strict: bool) -> list[Outcome]:
        """What is no candidate because something is wrong with its metadata."""
        problems = self.roster.problems
        if strict and problems:
            raise problems[0]
        return [Outcome(name=one.plugin or "", state="incompatible", reason=str(one)) for one in problems]

    def _try(self, plugin: Plugin, *, strict: bool, defer: bool) -> tuple[str, Outcome]:
        try:
            noted = self.arrivals.load_in_order(plugin, defer=defer)
        except WeighbridgeError as error:
            if strict:
                raise
            return _heading(error), Outcome(name=plugin.name, state=plugin.state.value, reason=str(error))
        if noted is None:
            return "dormant", Outcome(name=plugin.name, state=plugin.state.value, reason=plugin.reason)
        return "loaded", Outcome(name=plugin.name, state=plugin.state.value, warnings=noted)


def _heading(error: WeighbridgeError) -> str:
    """Under which heading of a report an error goes."""
    if isinstance(error, AdmissionDeferred):
        return "deferred"
    return "refused" if isinstance(error, AdmissionRefused) else "failed"
