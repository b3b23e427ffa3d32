"""The system calls for memory policy, as they are used here; a protocol alone, imported by a type checker only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Policies(Protocol):
    """The calls, as they are used here."""

    def prefer(self, address: int, nbytes: int, node: int | None) -> None:
        """Have pages that are not there yet taken from `node`, or from the nearest that has some; None: as usual.

        :raises OSError: EINVAL if the node has no memory or may not be used, EPERM or ENOSYS if the call is forbidden.
        """

    def nodes_of_pages(self, pages: Sequence[int]) -> Sequence[int]:
        """For each address the node of its page, or a negative error number: ENOENT or EFAULT if it is not there yet.

        :raises OSError: EPERM or ENOSYS if the call is forbidden.
        """

    def move(self, pages: Sequence[int], node: int) -> None:
        """Have these pages moved to `node`. What was moved is only known by asking.

        :raises OSError: ENOMEM if the node is full; some may have been moved.
        """
