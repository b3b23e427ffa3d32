"""A block of memory that was asked for on a node."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from weighbridge_hookspecs import LeaseError

if TYPE_CHECKING:
    from .abilities import Pages
    from .machine import Region


class NumaBuffer:
    """Memory on a node, or near it; a context manager that releases it at its end.

    It is safe to release it while views of it live: the memory goes, and its bytes leave the account, when the last of
    them has gone. A view keeps the memory alive and not this object, so that one in another plugin does not keep the
    plugin that made it. ``numpy.asarray(buffer)`` and ``numpy.frombuffer(buffer.view())`` are such views.
    """

    __slots__ = ("__weakref__", "_nbytes", "_node", "_region")

    def __init__(self, region: Region, node: int | None) -> None:
        self._region: Region | None = region
        self._nbytes = region.nbytes
        self._node = node

    @property
    def nbytes(self) -> int:
        """What was asked for, in bytes."""
        return self._nbytes

    @property
    def node(self) -> int | None:
        """The node that it was asked for; None where the machine decides. Where it is, ``placement`` says."""
        return self._node

    @property
    def preferred(self) -> int | None:
        """The node that the kernel was made to prefer: `node`, or the nearest that gives memory; None without any."""
        return self.region.preferred

    @property
    def pages(self) -> Pages:
        """What kind of pages it has: ``"ordinary"``, ``"transparent"`` or ``"reserved"``."""
        return self.region.pages

    @property
    def mapped_bytes(self) -> int:
        """What it takes: whole pages. This is what stands on the account."""
        return self.region.mapped_bytes

    @property
    def region(self) -> Region:
        """The memory as the machine knows it.

        :raises LeaseError: if the buffer was released.
        """
        region = self._region
        if region is None:
            raise LeaseError(
                f"a buffer of {self._nbytes} bytes was used after its release",
                step="lease",
                advice="Release it when the last user is done",
            )
        return region

    @property
    def released(self) -> bool:
        """Whether it was released."""
        return self._region is None

    def view(self) -> memoryview:
        """The memory itself, writable.

        :raises LeaseError: if the buffer was released.
        """
        return self.region.view()

    def release(self) -> None:
        """Give it back, as soon as no view of it is left. Releasing twice does nothing."""
        self._region = None

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """What numpy asks for: bytes, writable.

        Not ``__buffer__`` of Python 3.12, by which an array would keep this object. Source:
        https://numpy.org/doc/stable/reference/arrays.interface.html
        """
        return {"version": 3, "shape": (self._nbytes,), "typestr": "|u1", "data": self.view()}

    def __enter__(self) -> NumaBuffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def __len__(self) -> int:
        return self._nbytes

    def __repr__(self) -> str:
        state = "released" if self.released else f"preferring node {self.preferred}"
        return f"<NumaBuffer of {self._nbytes} bytes for node {self._node}, {state}>"
