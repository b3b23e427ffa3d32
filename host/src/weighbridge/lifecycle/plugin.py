"""One plugin as the host keeps it: where it stands, and what it was lent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
from weighbridge_hookspecs import GROUP, Candidate

from ..accounting.account import LoadWeighing
from ..leases.charges import Charges
from ..leases.ledger import LeaseLedger
from ..reclaim.snapshot import Differences
from ..reclaim.watch import Watched, survivors
from .states import HELD, State, check_transition


@attrs.define(eq=False)
class Plugin:
    """The books of one plugin. Only ``thing`` and ``context`` refer to the plugin itself."""

    candidate: Candidate
    state: State = State.DISCOVERED
    reason: str = ""
    retryable: bool = True
    thing: Any = None
    """The plugin object: what the hooks are called on."""
    leases: LeaseLedger = attrs.field(factory=LeaseLedger)
    charges: Charges = attrs.field(factory=Charges)
    tracked: list[Watched] = attrs.field(factory=list)
    weighing: LoadWeighing | None = None
    weighed_bytes: int = 0
    """All that its load took: traced, or resident where nothing was traced."""
    leased_at_load_bytes: int = 0
    estimate_bytes: int = 0
    load_number: int = 0
    """Its place in the order in which plugins were loaded."""
    own: str = ""
    """Name of its outermost package."""
    traced_since_load: bool = False
    """Tracing was on at its load and was left on, so traced bytes before and after can be compared."""
    scalable: Any = None
    peak_bytes: int = 0
    reported_bytes: int = 0
    """Native bytes by the plugin's last report."""
    patches: Differences = attrs.field(factory=Differences)
    """What its load changed elsewhere."""
    stranded: list[Watched] = attrs.field(factory=list)
    stranded_bytes: int = 0
    permanent: tuple[str, ...] = ()
    """Modules that stay for as long as the process lives."""
    loaded_version: str = ""
    """Of its distribution, at its last load: what is installed may be another one by now."""

    @property
    def name(self) -> str:
        """The name of its entry point."""
        return self.candidate.name

    @property
    def module(self) -> str:
        """The module that its entry point names."""
        return self._reference[0]

    @property
    def attribute(self) -> str:
        """The attribute that its entry point names, dotted; empty for the module itself."""
        return self._reference[1]

    @property
    def _reference(self) -> tuple[str, str]:
        """``"package.module:attribute [extra]"``, taken apart.

        https://packaging.python.org/en/latest/specifications/entry-points/#data-model
        """
        module, _, attribute = self.candidate.value.partition("[")[0].partition(":")
        return module.strip(), attribute.strip()

    @property
    def opaque(self) -> bool:
        """Whether it was written for another host: then it is loaded and weighed, and never called."""
        return self.candidate.group != GROUP

    @property
    def is_held(self) -> bool:
        """Whether it occupies its place: what it holds is on its account, and has to be unloaded."""
        return self.state in HELD or self.has_failed_at_work

    @property
    def has_failed_at_work(self) -> bool:
        """Whether it was dismissed and is not unloaded yet. Of one whose load failed, nothing is left."""
        return self.state is State.FAILED and self.thing is not None

    @property
    def is_unloadable(self) -> bool:
        """Whether its manifest lets it go before the process ends."""
        return self.candidate.manifest is None or self.candidate.manifest.unload == "clean"

    @property
    def promised_peak_bytes(self) -> int | None:
        """What its manifest promises never to exceed."""
        return self.candidate.manifest.peak_bytes if self.candidate.manifest else None

    @property
    def held_bytes(self) -> int:
        """What counts against its promise: all that its load took, what it leases, and native memory by charges and
        the last report."""
        return self.unleased(self.weighed_bytes) + self.leases.nbytes + self.charges.total_bytes + self.reported_bytes

    def unleased(self, load_bytes: int) -> int:
        """What a load took, less what it leased meanwhile: that was weighed with the rest, and is counted by itself."""
        return max(0, load_bytes - self.leased_at_load_bytes)

    def weigh(self, weighing: LoadWeighing) -> None:
        """Take over what was measured at its load."""
        self.weighing = weighing
        traced = weighing.traced_bytes
        self.weighed_bytes = max(0, weighing.resident_bytes) if traced is None else traced
        self.leased_at_load_bytes = self.leases.nbytes

    def move(self, state: State, reason: str = "", *, retryable: bool = True) -> State:
        """Go on to `state`; the state before.

        :raises IllegalTransition: if there is no such arrow.
        """
        check_transition(self.name, self.state, state)
        before, self.state = self.state, state
        self.reason, self.retryable = reason, retryable
        return before

    def leave_behind(self, names: Iterable[str]) -> None:
        """Write down modules of this generation that stay for as long as the process lives."""
        self.permanent = tuple(dict.fromkeys([*self.permanent, *names]))

    def renew(self) -> None:
        """Fresh books for another load."""
        self.loaded_version = self.candidate.version
        self.thing = self.weighing = self.scalable = None
        self.leases, self.charges, self.tracked = LeaseLedger(), Charges(), []
        self.traced_since_load = False
        self.weighed_bytes = self.leased_at_load_bytes = self.peak_bytes = self.reported_bytes = 0

    @property
    def is_left_behind(self) -> bool:
        """Whether something of an earlier generation outlived it, by the last look."""
        return bool(self.stranded or self.permanent)

    def look_again(self) -> bool:
        """Whether what was stranded has died meanwhile."""
        self.stranded = survivors(self.stranded)
        if self.is_left_behind:
            return False
        self.stranded_bytes = 0
        return True
