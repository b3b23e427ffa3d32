"""One stage of a pipeline, and what its functions are given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs
from weighbridge_hookspecs import ConfigurationError

from .cancel import CancelToken

MOST_NAME_BYTES: Final = 100
"""What the name of a stage may have in UTF-8: it is part of a key of the store."""


class _Attempt:
    """One call of a function of a stage, in a transaction. It can be pickled."""

    __slots__ = ("cancel", "stage", "transaction")

    def __init__(self, transaction: str, stage: str, cancel: CancelToken) -> None:
        self.transaction: Final = transaction
        self.stage: Final = stage
        self.cancel: Final = cancel
        """Set once it is to end: see :attr:`remaining_seconds`."""

    @property
    def key(self) -> str:
        """The same at each attempt of this stage in this transaction, and in no other: for idempotent requests."""
        return f"{self.transaction}/{self.stage}"

    @property
    def remaining_seconds(self) -> float | None:
        """What is left to it; None: no deadline."""
        return self.cancel.remaining_seconds

    def __getstate__(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._fields())

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(self._fields(), state, strict=True):
            setattr(self, name, value)

    @classmethod
    def _fields(cls) -> tuple[str, ...]:
        return (*_Attempt.__slots__, *cls.__slots__)


class Job(_Attempt):
    """What the function of a stage is given. ``job["name"]`` is the result of a stage that this one needs.

    Its `cancel` is set once the transaction has failed, was called off, or has no time left.
    """

    __slots__ = ("inputs", "results")

    def __init__(
        self, transaction: str, stage: str, inputs: Any, results: Mapping[str, Any], cancel: CancelToken
    ) -> None:
        super().__init__(transaction, stage, cancel)
        self.inputs: Final = inputs
        """What the transaction was begun with."""
        self.results: Final = results
        """Results of the stages that it needs, by name."""

    def __getitem__(self, name: str) -> Any:
        try:
            return self.results[name]
        except KeyError:
            problem = f"stage {self.stage!r} does not need {name!r}, but {', '.join(self.results) or 'no other'}"
        raise KeyError(problem)


class UndoJob(_Attempt):
    """What the undo of a stage is given. Its `cancel` is set once the deadline of this attempt has passed."""

    __slots__ = ("attempt", "captured")

    def __init__(self, transaction: str, stage: str, captured: Any, attempt: int, cancel: CancelToken) -> None:
        super().__init__(transaction, stage, cancel)
        self.captured: Final = captured
        """The copy that was made when the stage had ended."""
        self.attempt: Final = attempt
        """Counted from 1."""


Run: TypeAlias = Callable[[Job], Any]
Undo: TypeAlias = Callable[[UndoJob], Any]
Capture: TypeAlias = Callable[[Any], Any]


def senseless(name: str, value: object, advice: str) -> ConfigurationError:
    """The error about a value that makes no sense."""
    text = repr(value)
    return ConfigurationError(
        f"{name} is {text if len(text) <= 80 else text[:77] + '...'}", step="configure", advice=advice
    )


def is_number(value: object) -> bool:
    """Whether it is an int or a float, and no flag."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_function(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        raise senseless(attribute.name, value, "Give a function")


def _is_run(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not callable(value):
        raise senseless(attribute.name, value, "Give a function of one argument, the job")


def _is_name(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value.encode()) <= MOST_NAME_BYTES:
        raise senseless(attribute.name, value, f"Give a printable text of 1 to {MOST_NAME_BYTES} bytes")


def _seconds_or_none(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not (is_number(value) and value > 0):
        raise senseless(attribute.name, value, "Give a number of seconds above 0, or None")


def _pause(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not (is_number(value) and 0 <= value < float("inf")):
        raise senseless(attribute.name, value, "Give a number of seconds from 0 up")


def _count(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise senseless(attribute.name, value, "Give a whole number from 0 up")


def _names(value: Any) -> Any:
    """A text is one name, and not one for each letter."""
    return (value,) if isinstance(value, str) else tuple(value)


@attrs.frozen(kw_only=True)
class Stage:
    """One stage of a pipeline.

    :raises ConfigurationError: if a value makes no sense; the text names it.
    """

    name: str = attrs.field(validator=_is_name)
    run: Run = attrs.field(validator=_is_run)
    """Does the work; what it gives is the result. It may be a coroutine function."""
    undo: Undo | None = attrs.field(default=None, validator=_is_function)
    """Undoes the work of a stage that had ended. None: there is nothing to undo. It may be a coroutine function."""
    needs: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """Names of the stages whose results it needs; they end first, and are undone after it."""
    capture: Capture | None = attrs.field(default=None, validator=_is_function)
    """Picks of the result what the undo needs; None: all of it. A copy is kept. Without an undo it is not called."""
    deadline_seconds: float | None = attrs.field(default=None, validator=_seconds_or_none)
    """How long it may run; None: as long as the transaction."""
    undo_deadline_seconds: float | None = attrs.field(default=None, validator=_seconds_or_none)
    """How long each attempt to undo it may take; None: what the plugin's settings say."""
    undo_retries: int = attrs.field(default=0, validator=_count)
    """How often an undo that raised is tried again."""
    undo_retry_seconds: float = attrs.field(default=0.0, validator=_pause)
    """How long to wait before each of these."""
    keep: bool = False
    """Keep the result to the end, though other stages need it; what nobody needs is kept anyway."""


def is_async(function: object) -> bool:
    """Whether calling it gives a coroutine."""
    return bool(getattr(function, "is_async", False)) or inspect.iscoroutinefunction(function)
