"""The same on Windows, by documented interfaces: firmware tables, the registry, and a page for machine code.

Written to their documentation; no part of it was run on Windows.

- GetSystemFirmwareTable: https://learn.microsoft.com/windows/win32/api/sysinfoapi/nf-sysinfoapi-getsystemfirmwaretable
- VirtualProtect: https://learn.microsoft.com/windows/win32/api/memoryapi/nf-memoryapi-virtualprotect
- Guest\\Parameters: https://learn.microsoft.com/virtualization/hyper-v-on-windows/reference/integration-services
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from . import dmi, smbios
from .evidence import Evidence, Look, Silence, Weight

FIRMWARE: Final = "GetSystemFirmwareTable(RSMB)"
GUEST: Final = r"SOFTWARE\Microsoft\Virtual Machine\Guest\Parameters"
BIOS: Final = r"HARDWARE\DESCRIPTION\System\BIOS"

_RSMB: Final = int.from_bytes(b"RSMB", "big")
# RawSMBIOSData: four bytes of versions, and the length of the table that follows, 32 bits.
_HEADER: Final = 8
_VALUES: Final = {
    "sys_vendor": "SystemManufacturer",
    "product_name": "SystemProductName",
    "board_vendor": "BaseBoardManufacturer",
    "bios_vendor": "BIOSVendor",
    "product_version": "SystemVersion",
}
_COMMIT_AND_RESERVE: Final = 0x3000
_READ_WRITE: Final = 0x04
_EXECUTE_READ: Final = 0x20
_RELEASE: Final = 0x8000
_PAGE: Final = 4096


def look() -> Look:
    """What firmware and registry say."""
    table = firmware_table()
    fields = smbios.fields(table) if table else {}
    if fields:
        yield from dmi.judge(fields, where=FIRMWARE, vm_bit=smbios.is_virtual(table or b""))
    elif fields := _registered():
        yield from dmi.judge(fields, where=f"HKLM\\{BIOS}")
    else:
        yield Silence(where=FIRMWARE, why="no table, and nothing in the registry")
    if values(GUEST):
        # A host puts it there for its guests, through the integration services.
        yield Evidence(source="bus", where=f"HKLM\\{GUEST}", said="there", kind="hyperv", weight=Weight.NAMED)


def table_of(raw: bytes) -> bytes:
    """The table in what GetSystemFirmwareTable gives: without its header, and as long as that says."""
    length = int.from_bytes(raw[4:_HEADER], "little")
    return raw[_HEADER : _HEADER + length]


def firmware_table() -> bytes | None:
    """The firmware's tables; None if there are none."""
    kernel32 = _kernel32()
    size = kernel32.GetSystemFirmwareTable(_RSMB, 0, None, 0)
    if not size:
        return None
    import ctypes

    buffer = (ctypes.c_ubyte * size)()
    written = kernel32.GetSystemFirmwareTable(_RSMB, 0, buffer, size)
    return table_of(bytes(buffer)) if 0 < written <= size else None


def values(key: str) -> dict[str, str]:
    """The texts under a key of ``HKEY_LOCAL_MACHINE``; empty if there is no such key."""
    if sys.platform != "win32":
        return {}
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
            count = winreg.QueryInfoKey(opened)[1]
            found = [winreg.EnumValue(opened, index) for index in range(count)]
    except OSError:
        return {}
    return {name: value for name, value, _ in found if isinstance(value, str)}


def _registered() -> dict[str, str]:
    found = values(BIOS)
    return {field: found[name] for field, name in _VALUES.items() if found.get(name)}


@contextmanager
def code_page(code: bytes) -> Iterator[int | str]:
    """The address of `code` in a page that can be executed and no longer written; a text that says why there is none.

    Arbitrary Code Guard refuses VirtualProtect, and nothing was run then.
    """
    import ctypes

    kernel32 = _kernel32()
    kernel32.VirtualAlloc.restype = ctypes.c_void_p
    address = kernel32.VirtualAlloc(None, ctypes.c_size_t(_PAGE), _COMMIT_AND_RESERVE, _READ_WRITE)
    if not address:
        yield "VirtualAlloc gave nothing"
        return
    page, old = ctypes.c_void_p(address), ctypes.c_uint32()
    try:
        ctypes.memmove(page, code, len(code))
        if kernel32.VirtualProtect(page, ctypes.c_size_t(_PAGE), _EXECUTE_READ, ctypes.byref(old)):
            yield address
        else:
            yield "VirtualProtect(PAGE_EXECUTE_READ) was refused"
    finally:
        kernel32.VirtualFree(page, ctypes.c_size_t(0), _RELEASE)


def _kernel32() -> Any:
    import ctypes

    return ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined, unused-ignore]
