"""How one unload is going."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs

from ..accounting.libraries import Library
from ..accounting.modules import Departure
from ..reclaim.receipt import Step, Survivor, Verify
from ..reclaim.ties.tie import Cut, Finding
from ..reclaim.watch import Watched, survivors
from .words import in_words


@attrs.frozen(kw_only=True)
class Wish:
    """How somebody wants a plugin to be unloaded."""

    reason: str
    dependencies: bool
    seconds: float
    """One deadline for everything that the host waits for or searches."""
    verify: Verify
    cut: Cut
    vetoes: bool = True
    """Whether others may object."""


@attrs.define
class Course:
    """What has come of it so far."""

    wish: Wish
    deadline: float = attrs.field(default=attrs.Factory(lambda self: time.monotonic() + self.wish.seconds, True))
    steps: list[Step] = attrs.field(factory=list)
    revoked: Mapping[str, int] = attrs.field(factory=dict)
    watched: list[Watched] = attrs.field(factory=list)
    finalizers: bool = False
    """Whether a class of the plugin's has a ``__del__``."""
    departure: Departure = attrs.field(factory=lambda: Departure((), {}))
    findings: list[Finding] = attrs.field(factory=list)
    collections: int = 0
    files: tuple[str, ...] = ()
    """Where the code of the dropped modules was read from."""
    homes: frozenset[str] = frozenset()
    """Where the modules came from that nobody else uses."""
    libraries: tuple[Library, ...] = ()
    """Of these places, shared libraries that are still mapped."""
    survivors: list[Survivor] = attrs.field(factory=list)
    interrupted: bool = False

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """One step; what goes wrong in it is appended to the list, or raised and written down."""
        failures: list[str] = []
        began = time.perf_counter()
        try:
            yield failures
        except (Exception, SystemExit) as error:
            failures.append(in_words(error))
        except BaseException as error:
            # half an unload is worse than a late Ctrl-C: it is raised again when all is done
            failures.append(f"interrupted by {type(error).__name__}")
            self.interrupted = True
        self.took(name, began, failures)

    def took(self, name: str, began: float, failures: list[str] | None = None) -> None:
        """Write down a step that began at `began`, by ``time.perf_counter``."""
        self.steps.append(Step(name=name, seconds=time.perf_counter() - began, failures=tuple(failures or ())))

    def remaining(self, least: float = 0.0) -> float:
        """Seconds until the deadline, and `least` of them in any case."""
        return max(least, self.deadline - time.monotonic())

    def own_weight(self) -> tuple[int, int]:
        """Bytes and blocks of what is written down here: the meter must not measure itself."""
        parts: list[object] = [
            self.watched,
            self.findings,
            self.steps,
            self.files,
            *self.files,
            self.homes,
            *self.homes,
        ]
        for one in self.watched:
            parts += (one, one.name, one.reference)
        for finding in self.findings:
            parts += (finding, finding.place, finding.held, finding.note)
        for step in self.steps:
            parts += (step, step.seconds, *step.failures)
        blocks = {id(part): part for part in parts}
        return sum(map(sys.getsizeof, blocks.values())), len(blocks)

    def alive(self) -> list[Watched]:
        """What had to die and has not."""
        return survivors(self.watched)

    def has_failed(self, *names: str) -> bool:
        """Whether something went wrong in one of the steps called `names`."""
        return any(step.failures for step in self.steps if step.name in names)

    @property
    def had_to_go(self) -> int:
        """How many things had to go, those among them that nobody even tried to drop."""
        return len(self.watched) + len(self.departure.compiled) + len(self.departure.declared) + self.has_failed("drop")

    @property
    def failures(self) -> tuple[str, ...]:
        """Of all steps, each with the name of its step."""
        return tuple(f"{step.name}: {failure}" for step in self.steps for failure in step.failures)
