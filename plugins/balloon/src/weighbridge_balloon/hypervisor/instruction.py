"""Runs the instruction CPUID: a few bytes of machine code in a page of their own, for as long as it takes.

The page is never writable and executable at once. Where it may not become executable at all, because of SELinux,
``PR_SET_MDWE`` or systemd's ``MemoryDenyWriteExecute``, mprotect fails and nothing was run. Where the kernel has CPUID
fault, ``arch_prctl(ARCH_CPUID_GET)`` says so beforehand; the instruction would end the process (arch_prctl(2)).
"""

from __future__ import annotations

import platform
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .cpuid import Asked, Cpuid, Denied, Registers

# void run(uint32_t leaf, uint32_t subleaf, uint32_t registers[4]). CPUID overwrites rbx, which belongs to the caller:
# it is kept in r9, so that the function has no frame and Windows needs no unwind information for it.
_AFTER: Final = (
    b"\x0f\xa2"  # cpuid
    b"\x41\x89\x00"  # mov [r8], eax
    b"\x41\x89\x58\x04"  # mov [r8 + 4], ebx
    b"\x41\x89\x48\x08"  # mov [r8 + 8], ecx
    b"\x41\x89\x50\x0c"  # mov [r8 + 12], edx
    b"\x4c\x89\xcb"  # mov rbx, r9
    b"\xc3"  # ret
)
_BEGIN: Final = b"\xf3\x0f\x1e\xfa"  # endbr64: an indirect call may end here
_KEEP: Final = b"\x49\x89\xd9"  # mov r9, rbx
SYSTEM_V: Final = _BEGIN + b"\x49\x89\xd0" + _KEEP + b"\x89\xf8\x89\xf1" + _AFTER  # mov r8, rdx; eax, edi; ecx, esi
WINDOWS: Final = _BEGIN + _KEEP + b"\x89\xc8\x89\xd1" + _AFTER  # mov eax, ecx; ecx, edx; r8 is there already

DEVICE: Final = "dev/cpu/0/cpuid"


def why_not(*, machine: str, pointer_bytes: int, system: str) -> str | None:
    """Why the machine code cannot be for this process; None if it can."""
    if machine.lower() not in {"x86_64", "amd64"}:
        return f"no such instruction on {machine or 'this processor'}"
    if pointer_bytes != 8:
        return "the process has 32 bits"
    if system not in {"linux", "win32"}:
        return f"not written for {system}"
    return None


@contextmanager
def opened(*, allowed: bool = True, root: Path = Path("/")) -> Iterator[Asked | Denied]:
    """The instruction, for the ``with`` block; where it may not be run, the file ``/dev/cpu/0/cpuid``, or neither.

    :param allowed: whether machine code may be run; the file, which is root's, is read all the same.
    :param root: where the file system begins that has the file.
    """
    reason = "off: the setting cpuid is false"
    if allowed:
        reason = why_not(machine=platform.machine(), pointer_bytes=struct.calcsize("P"), system=sys.platform) or ""
    if not reason:
        with _page() as run:
            if not isinstance(run, Denied):
                yield run
                return
            reason = run.why
    with _device(root / DEVICE) as read:
        yield Denied(reason) if read is None else Asked(read, f"/{DEVICE}")


@contextmanager
def _page() -> Iterator[Asked | Denied]:
    """The instruction out of a page of machine code."""
    try:
        if sys.platform == "win32":
            from .windows import code_page

            refused, code = None, WINDOWS
        else:
            from .linux import code_page, refusal

            refused, code = refusal(), SYSTEM_V
    except ImportError as error:
        refused = f"ctypes cannot be used here: {error}"
    if refused:
        yield Denied(refused)
        return
    with code_page(code) as address:
        yield Denied(address) if isinstance(address, str) else Asked(_function(address))


def _function(address: int) -> Cpuid:
    import ctypes

    run = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(address)

    def cpuid(leaf: int) -> Registers:
        registers = (ctypes.c_uint32 * 4)()
        run(leaf, 0, ctypes.addressof(registers))
        return Registers(*registers)

    return cpuid


@contextmanager
def _device(path: Path) -> Iterator[Cpuid | None]:
    if sys.platform == "win32":
        yield None
    else:
        from .linux import device

        with device(path) as read:
            yield read
