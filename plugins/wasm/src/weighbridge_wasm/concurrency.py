"""A limit on how many may work at once that follows the load of the machine."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final

import attrs
from weighbridge_hookspecs import ConfigurationError

from .cores import Cores
from .load import LoadSource

DEFAULT_LOW: Final = 0.5
"""Share of the cores in use below which the limit goes up."""
DEFAULT_HIGH: Final = 0.8
"""Share of the cores in use above which the limit goes down."""
DEFAULT_INTERVAL_SECONDS: Final = 10.0
"""Time between two looks at the load."""
SMOOTHING_INTERVALS: Final = 3
"""Intervals after which a sample still has 1/e of its weight, if nothing else is wanted."""


@attrs.frozen(kw_only=True)
class ConcurrencyStatistics:
    """How the limit stands, and how it came there: ``ticks == ups + downs + holds + failures``."""

    limit: int
    floor: int
    """The limit goes no lower."""
    ceiling: int
    """The limit goes no higher."""
    load: float | None
    """Share of the cores in use, 0 to 1, smoothed; None before the first sample."""
    last_sample: float | None
    """The last one that was known, as it was."""
    ticks: int
    ups: int
    downs: int
    holds: int
    """Ticks that left the limit as it was: the load was between the marks, the limit at a bound, or no time had
    passed."""
    failures: int
    """Ticks that had no sample, or one that is no share."""
    last_failure: str | None
    cores: int
    cores_source: str
    """How the number of cores is known."""


class ConcurrencyControl:
    """Moves a limit by one step at a time: up below a mark of load, down above another, and not in between.

    The range is from half of the cores, rounded up, to twice the cores; the first limit is the cores. Load is smoothed
    by an exponential moving average whose weight follows the time that passed, ``1 - exp(-dt / smoothing)``, so that a
    late tick counts for more (https://en.wikipedia.org/wiki/Exponential_smoothing#Time_constant). The first sample is
    taken as it is.

    With the load of the whole system the limit throttles itself: its own work is above the high mark, and at half of
    the cores it is never below the low one. The load of others is the right one to follow.

    Thread-safe. Each change is told to `resize` before the next one can be made.

    :param cores: what there is.
    :param load: asked at each tick; closed by whoever made it.
    :param resize: takes each new limit, such as the method of a gate. What it raises comes out of the call that made
        the change, and the limit stays as it was. The first limit is not told.
    :param clock: seconds; where they go back or stand still nothing is changed.
    :param low: below this load the limit goes up, from 0 to 1.
    :param high: above this load the limit goes down, from `low` to 1.
    :param interval_seconds: time between two ticks; whoever calls `tick` keeps to it.
    :param smoothing_seconds: time constant of the average; three intervals if it is None.
    :raises ConfigurationError: if one of them makes no sense.
    """

    def __init__(
        self,
        cores: Cores,
        load: LoadSource,
        resize: Callable[[int], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        low: float = DEFAULT_LOW,
        high: float = DEFAULT_HIGH,
        interval_seconds: float = DEFAULT_INTERVAL_SECONDS,
        smoothing_seconds: float | None = None,
    ) -> None:
        if not 0 <= low <= high <= 1:
            raise ConfigurationError(
                f"the marks are {low!r} and {high!r}",
                advice="Give two shares of the cores, from 0 to 1, the low one first",
            )
        self.interval_seconds: Final = _above_0("interval_seconds", interval_seconds)
        smoothing = SMOOTHING_INTERVALS * interval_seconds if smoothing_seconds is None else smoothing_seconds
        self._smoothing: Final = _above_0("smoothing_seconds", smoothing)
        self._cores: Final = cores
        self._source: Final = load
        self._resize: Final = resize
        self._clock: Final = clock
        self._low: Final = low
        self._high: Final = high
        self._lock: Final = threading.RLock()  # a finalizer may ask for the limit while its thread is at work in here
        self._floor, self._ceiling = own_bounds(cores.count)
        self._limit = cores.count
        self._last_at = clock()
        self._load: float | None = None
        self._last_sample: float | None = None
        self._ups = self._downs = self._holds = self._failures = 0
        self._last_failure: str | None = None

    @property
    def limit(self) -> int:
        """How many may work at once."""
        return self._limit

    def tick(self) -> int:
        """Look at the load, and move the limit by one step if it is time to; the limit after that."""
        with self._lock:
            now = self._clock()
            passed = now - self._last_at
            if not passed > 0:
                self._last_at = min(self._last_at, now)
                self._holds += 1
                return self._limit
            sample = self._sample()
            if sample is None:
                self._failures += 1
                return self._limit
            self._last_at = now
            self._last_sample = sample
            self._load = smoothed(self._load, sample, passed, self._smoothing)
            self._step(self._load)
            return self._limit

    def set_bounds(self, *, floor: int | None = None, ceiling: int | None = None) -> int:
        """Set the range, and bring the limit into it at once; the limit after that.

        A floor and a ceiling that are the same fix it. What is None is as the cores have it, or at the other bound if
        that lies beyond.

        :raises ConfigurationError: if one is no whole number from 1 up, or the floor is above the ceiling.
        """
        low, high = own_bounds(self._cores.count)
        if ceiling is not None:
            high = _from_1("ceiling", ceiling)
            low = min(low, high)
        if floor is not None:
            low = _from_1("floor", floor)
            high = max(high, low) if ceiling is None else high
        if low > high:
            raise ConfigurationError(
                f"the floor {low} is above the ceiling {high}", advice="Give the smaller one first"
            )
        with self._lock:
            self._move(min(max(self._limit, low), high))
            self._floor, self._ceiling = low, high
            return self._limit

    def statistics(self) -> ConcurrencyStatistics:
        """How it stands, all of one moment."""
        with self._lock:
            return ConcurrencyStatistics(
                limit=self._limit,
                floor=self._floor,
                ceiling=self._ceiling,
                load=self._load,
                last_sample=self._last_sample,
                ticks=self._ups + self._downs + self._holds + self._failures,
                ups=self._ups,
                downs=self._downs,
                holds=self._holds,
                failures=self._failures,
                last_failure=self._last_failure,
                cores=self._cores.count,
                cores_source=self._cores.source,
            )

    def _sample(self) -> float | None:
        """What the source says; None if it knows nothing, or nothing that makes sense."""
        try:
            sample = self._source.sample()
        except Exception as error:
            self._last_failure = f"{type(error).__name__}: {error}"
            return None
        if sample is None or not 0 <= sample <= 1:
            self._last_failure = f"the load is {sample!r}"
            return None
        return sample

    def _step(self, load: float) -> None:
        if load < self._low and self._limit < self._ceiling:
            self._move(self._limit + 1)
            self._ups += 1
        elif load > self._high and self._limit > self._floor:
            self._move(self._limit - 1)
            self._downs += 1
        else:
            self._holds += 1

    def _move(self, limit: int) -> None:
        if limit != self._limit:
            self._resize(limit)
            self._limit = limit


def own_bounds(cores: int) -> tuple[int, int]:
    """The range that so many cores give: half of them, rounded up, and twice as many.

    >>> own_bounds(1), own_bounds(5)
    ((1, 2), (3, 10))
    """
    return max(1, math.ceil(cores / 2)), 2 * cores


def smoothed(average: float | None, sample: float, passed_seconds: float, smoothing_seconds: float) -> float:
    """The average after one more sample, which tells of the time that passed; None is no average yet."""
    if average is None:
        return sample
    weight = -math.expm1(-passed_seconds / smoothing_seconds)
    return average + weight * (sample - average)


def _above_0(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigurationError(f"{name} is {value!r}", advice="Give a number of seconds above 0")
    return float(value)


def _from_1(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} is {value!r}", advice="Give a whole number from 1 up")
    return value
