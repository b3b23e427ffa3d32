"""What running the instruction takes on Linux: the kernel's leave, a page for machine code, and the file beside it."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .cpuid import Cpuid, Registers

assert sys.platform != "win32"  # the module before this one asked; a type checker asks here

# arch/x86/include/uapi/asm/prctl.h, arch/x86/entry/syscalls/syscall_64.tbl
_ARCH_PRCTL: Final = 158
_ARCH_CPUID_GET: Final = 0x1011
_DONE: Final = 0


def refusal() -> str | None:
    """What the kernel has against the instruction; None if it lets this thread run it: arch_prctl(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    answer = libc.syscall(ctypes.c_long(_ARCH_PRCTL), ctypes.c_long(_ARCH_CPUID_GET), ctypes.c_long(0))
    if answer == 1:
        return None
    said = "the instruction faults" if answer == 0 else os.strerror(ctypes.get_errno())
    return f"arch_prctl(ARCH_CPUID_GET): {said}"


@contextmanager
def code_page(code: bytes) -> Iterator[int | str]:
    """The address of `code` in a page that can be executed and no longer written; a text that says why there is none.

    mprotect fails with EACCES or EPERM where memory that was written may not become executable.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page.write(code)
        anchor = ctypes.c_char.from_buffer(page)
        address = ctypes.addressof(anchor)
        try:
            reach = ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE)
            if libc.mprotect(*reach, mmap.PROT_READ | mmap.PROT_EXEC) == _DONE:
                yield address
            else:
                yield f"mprotect(PROT_EXEC): {os.strerror(ctypes.get_errno())}"
        finally:
            del anchor  # as long as somebody points into the page, it cannot be unmapped


@contextmanager
def device(path: Path) -> Iterator[Cpuid | None]:
    """The file of the kernel's module ``cpuid``, cpuid(4), which is root's; None if it does not answer."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield _reader(descriptor) if _read(descriptor, 0) else None
    finally:
        os.close(descriptor)


def _reader(descriptor: int) -> Cpuid:
    def cpuid(leaf: int) -> Registers:
        return Registers(*struct.unpack("<4I", _read(descriptor, leaf) or bytes(16)))

    return cpuid


def _read(descriptor: int, leaf: int) -> bytes | None:
    try:
        raw = os.pread(descriptor, 16, leaf)
    except OSError:
        return None
    return raw if len(raw) == 16 else None
