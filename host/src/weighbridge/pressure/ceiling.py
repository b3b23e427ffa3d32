"""The ceiling in force: the application's own, or a lower one that the system sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..limits import OutsideLimit


class Ceiling:
    """How much the process may occupy. It changes while the process runs, if a limit from outside does.

    :param own_bytes: by the application or its operator; None for no ceiling.
    :param outside: reads the limit that the system sets, None where it sets none; without it nobody looks.
    """

    def __init__(self, own_bytes: int | None, outside: Callable[[], OutsideLimit | None] | None = None) -> None:
        self.own_bytes: Final = own_bytes
        self._outside = outside
        self.limit: OutsideLimit | None = None
        """The limit from outside by the last look, whether it counts or not."""
        self.read()

    def read(self) -> int | None:
        """Look again at what the system allows; the ceiling in force, in bytes."""
        if self._outside is not None:
            self.limit = self._outside()
        return self.nbytes

    @property
    def nbytes(self) -> int | None:
        """The lower of the two, from 1 up; None if there is neither."""
        both = (self.own_bytes, self.limit.nbytes if self.limit else None)
        limits = [limit for limit in both if limit is not None]
        return max(1, min(limits)) if limits else None
