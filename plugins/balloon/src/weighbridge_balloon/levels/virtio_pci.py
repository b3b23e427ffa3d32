"""Size and target from the balloon device itself, for root and only if the operator allows it: looking writes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import attrs

from ..files import names_in, read_text
from .level import UNKNOWN, Level

_BALLOON: Final = "0x0005"
_UNIT: Final = 4096
"""The device counts pages of 4 KiB whatever the machine's are (VIRTIO_BALLOON_PFN_SHIFT)."""
_CAPABILITIES: Final = 0x34
_HAS_CAPABILITIES: Final = 0x10
_STATUS: Final = 0x06
_VENDOR_SPECIFIC: Final = 0x09
_DEVICE_CONFIG, _WINDOW = 4, 5
_HEADER: Final = struct.Struct("<BBBBBBHII")
_U32: Final = struct.Struct("<I")


class ConfigSpace(Protocol):
    """The configuration space of one PCI device."""

    def read(self, offset: int, nbytes: int) -> bytes:
        """What is there; fewer bytes at the end, and for whom it is hidden.

        :raises OSError: if it cannot be read.
        """

    def write(self, offset: int, content: bytes) -> None:
        """Put `content` there.

        :raises OSError: if it cannot be written.
        """


@attrs.frozen
class ConfigFile:
    """The file ``config`` of a device in sysfs: https://docs.kernel.org/PCI/sysfs-pci.html"""

    path: Path

    def read(self, offset: int, nbytes: int) -> bytes:
        """Read from it."""
        return self._with(os.O_RDONLY, lambda file: os.pread(file, nbytes, offset))

    def write(self, offset: int, content: bytes) -> None:
        """Write to it."""
        self._with(os.O_WRONLY, lambda file: os.pwrite(file, content, offset))

    def _with(self, how: int, act: Callable[[int], bytes | int]) -> bytes:
        file = os.open(self.path, how | os.O_CLOEXEC)
        try:
            done = act(file)
        finally:
            os.close(file)
        return done if isinstance(done, bytes) else b""


@attrs.frozen
class _Capability:
    """``struct virtio_pci_cap``."""

    at: int
    kind: int
    bar: int
    offset: int


class VirtioPciLevel:
    """``num_pages`` and ``actual`` of ``struct virtio_balloon_config``.

    They lie in a memory region that strict kernels let nobody map. The capability VIRTIO_PCI_CAP_PCI_CFG is a window
    into it: whoever writes where to look into its fields bar, offset and length finds it in the next field
    (section 4.1.4.9 of https://docs.oasis-open.org/virtio/virtio/v1.2/virtio-v1.2.html). Linux's driver does not use
    the window, yet its three fields are written at each look, so this is never done unasked.
    """

    def __init__(self, space: ConfigSpace, name: str) -> None:
        self._space = space
        self._name = name

    @property
    def name(self) -> str:
        """The file."""
        return self._name

    @property
    def sees_target(self) -> bool:
        """Yes."""
        return True

    def read(self) -> Level:
        """Size and target."""
        try:
            window, config = self._find(_WINDOW), self._find(_DEVICE_CONFIG)
            if window is None or config is None:
                return UNKNOWN
            target, actual = (self._look(window, config, field) for field in (0, 4))
        except (OSError, struct.error):
            return UNKNOWN
        return Level(actual_bytes=actual * _UNIT, wanted_bytes=(target - actual) * _UNIT)

    def close(self) -> None:
        """Nothing is kept open."""

    def _find(self, kind: int) -> _Capability | None:
        return next((found for found in capabilities(self._space) if found.kind == kind), None)

    def _look(self, window: _Capability, config: _Capability, field: int) -> int:
        self._space.write(window.at + 4, bytes([config.bar]))
        self._space.write(window.at + 8, _U32.pack(config.offset + field))
        self._space.write(window.at + 12, _U32.pack(_U32.size))
        return int(_U32.unpack(self._space.read(window.at + _HEADER.size, _U32.size))[0])


def capabilities(space: ConfigSpace) -> Iterator[_Capability]:
    """The virtio capabilities of a device, along its list.

    :raises OSError: if the space cannot be read.
    """
    status = space.read(_STATUS, 1)
    at = (space.read(_CAPABILITIES, 1) or b"\0")[0] if status and status[0] & _HAS_CAPABILITIES else 0
    seen: set[int] = set()
    while at and at not in seen:
        seen.add(at)
        header = space.read(at, _HEADER.size)
        if len(header) < _HEADER.size:
            return
        vendor, following, _, kind, bar, _, _, offset, _ = _HEADER.unpack(header)
        if vendor == _VENDOR_SPECIFIC:
            yield _Capability(at, kind, bar, offset)
        at = following


def find_virtio_pci(root: Path) -> VirtioPciLevel | None:
    """The balloon device on the PCI bus; None if there is none."""
    devices = root / "sys/bus/virtio/devices"
    for name in names_in(devices) or ():
        if read_text(devices / name / "device") == _BALLOON:
            path = Path(os.path.realpath(devices / name)).parent / "config"
            if path.is_file():
                return VirtioPciLevel(ConfigFile(path), str(path))
    return None
