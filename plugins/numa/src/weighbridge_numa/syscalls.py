"""The system calls for memory policy, without libnuma: that one prints, exits, and is not there everywhere.

Source: mbind(2), get_mempolicy(2), move_pages(2) and ``include/uapi/linux/mempolicy.h``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

MPOL_DEFAULT: Final = 0
MPOL_PREFERRED: Final = 1
# The kernel takes one off before it counts bits (mbind(2), "maxnode"); 1024 is the most nodes that it can be built for.
_NODE_BITS: Final = 1024
_MAX_NODE: Final = _NODE_BITS + 1
_MPOL_MF_MOVE: Final = 1 << 1
_BATCH: Final = 1 << 14
_LONG_BITS: Final = 8 * ctypes.sizeof(ctypes.c_ulong)

Call: TypeAlias = Callable[..., int]
"""``call(number, *six)``, whole numbers or arrays: gives what the kernel returned, or raises the OSError it meant."""


Numbers: TypeAlias = tuple[int, int]
"""What mbind and move_pages are numbered on one architecture."""

_GENERIC: Final = (235, 239)  # include/uapi/asm-generic/unistd.h
# arch/*/kernel/syscalls/*.tbl; 64 bits each, for a process of 32 has other numbers on the same machine.
NUMBERS: Final[dict[str, Numbers]] = {
    "x86_64": (237, 279),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
    "s390x": (268, 310),
    "ppc64": (259, 301),
    "ppc64le": (259, 301),
}


class Syscalls:
    """The calls of the kernel that runs."""

    def __init__(self, call: Call, numbers: Numbers) -> None:
        self._call = call
        self._mbind, self._move_pages_number = numbers
        self._masks: dict[int, ctypes.Array[ctypes.c_ulong]] = {}

    def prefer(self, address: int, nbytes: int, node: int | None) -> None:
        """See :meth:`~weighbridge_numa.policies.Policies.prefer`."""
        if node is None:
            self._call(self._mbind, address, nbytes, MPOL_DEFAULT, 0, 0, 0)
            return
        mask = self._masks.get(node) or self._masks.setdefault(node, node_mask((node,)))
        self._call(self._mbind, address, nbytes, MPOL_PREFERRED, mask, _MAX_NODE, 0)

    def nodes_of_pages(self, pages: Sequence[int]) -> Sequence[int]:
        """See :meth:`~weighbridge_numa.policies.Policies.nodes_of_pages`."""
        found = array("i")
        for first in range(0, len(pages), _BATCH):
            found.extend(self._move_pages(pages[first : first + _BATCH], None))
        return found

    def move(self, pages: Sequence[int], node: int) -> None:
        """See :meth:`~weighbridge_numa.policies.Policies.move`."""
        for first in range(0, len(pages), _BATCH):
            self._move_pages(pages[first : first + _BATCH], node)

    def _move_pages(self, pages: Sequence[int], node: int | None) -> array[int]:
        count = len(pages)
        addresses = (ctypes.c_void_p * count)(*pages)
        targets = 0 if node is None else (ctypes.c_int * count)(*[node] * count)
        # a page that is not looked at keeps what stands here: it is not known where it is
        status = array("i", [-errno.ENOENT]) * count
        shared = (ctypes.c_int * count).from_buffer(status)
        self._call(self._move_pages_number, 0, count, addresses, targets, shared, _MPOL_MF_MOVE)
        del shared
        return status


def node_mask(nodes: Iterable[int]) -> ctypes.Array[ctypes.c_ulong]:
    """Nodes as the kernel reads them: an array of ``unsigned long``, the lowest bit of the first one is node 0."""
    mask = (ctypes.c_ulong * (_NODE_BITS // _LONG_BITS))()
    for node in nodes:
        mask[node // _LONG_BITS] |= 1 << (node % _LONG_BITS)
    return mask


def find_syscalls(machine: str | None = None) -> Syscalls | None:
    """The calls of this kernel; None where their numbers are not known, or there are none.

    :param machine: architecture as ``os.uname`` names it.
    """
    if sys.platform != "linux" or sys.maxsize < 1 << 32:
        return None
    numbers = NUMBERS.get(machine or os.uname().machine)
    return None if numbers is None else Syscalls(_libc_call(), numbers)


def _libc_call() -> Call:
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    # a bare int would be passed as a C int and lose its upper half; no call has more than six arguments
    function.argtypes = [ctypes.c_long] * 7

    def call(number: int, *arguments: Any) -> int:
        result: int = function(number, *(a if isinstance(a, int) else ctypes.addressof(a) for a in arguments))
        if result == -1:
            reason = ctypes.get_errno()
            raise OSError(reason, os.strerror(reason))
        return result

    return call
