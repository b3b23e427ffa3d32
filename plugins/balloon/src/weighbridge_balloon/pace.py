"""How fast the balloon grows."""

from __future__ import annotations

from collections import deque
from typing import Final

_SPAN_SECONDS: Final = 0.5
_MOST: Final = 64


class Pace:
    """The sizes of the balloon in the last half second, and the least that it held since it is watched.

    A balloon that lacks memory tries again every 200 ms (``fill_balloon`` in
    https://github.com/torvalds/linux/blob/v6.12/drivers/virtio/virtio_balloon.c), so a shorter span would see it stand
    still between two tries.
    """

    def __init__(self) -> None:
        self._sizes: deque[tuple[float, int]] = deque(maxlen=_MOST)
        self._baseline: int | None = None

    @property
    def baseline(self) -> int | None:
        """The least size seen, in bytes; None before the first."""
        return self._baseline

    @property
    def growth(self) -> float:
        """Bytes a second; 0 if it shrinks, or is not known yet."""
        if len(self._sizes) < 2:
            return 0.0
        (start, least), (end, most) = self._sizes[0], self._sizes[-1]
        return max(0.0, (most - least) / (end - start)) if end > start else 0.0

    def note(self, seconds: float, size: int | None) -> None:
        """Write down the size at a time; None is passed over.

        :param seconds: of a clock that never goes back.
        """
        if size is None:
            return
        self._baseline = size if self._baseline is None else min(self._baseline, size)
        self._sizes.append((seconds, size))
        # One older than the span stays, or looks further apart than that would never see it grow.
        while len(self._sizes) > 2 and seconds - self._sizes[1][0] >= _SPAN_SECONDS:
            self._sizes.popleft()
