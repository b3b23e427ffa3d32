"""What the page about the balloon driver shows of pressure and of giving back, run as it stands there."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from weighbridge_hookspecs import PluginContext

from weighbridge_balloon import PressureControl, PressureSettings, ReleaseReceipt

MIB = 1024 * 1024


# snippet: thumbnails
class Thumbnails:
    """Keeps pictures where they can be given back."""

    def __init__(self, context: PluginContext) -> None:
        pressure = context.capabilities["balloon"].pressure
        self._pictures = pressure.slab_cache(256 * 1024 * 1024, charge=context.charge)

    def picture(self, name: str) -> bytes:
        found: bytes | None = self._pictures.get(name)
        if found is None:
            found = self._draw(name)
            self._pictures.put(name, found)
        return found

    # end snippet

    def _draw(self, name: str) -> bytes:
        return name.encode() * 1000


# snippet: handler
class Index:
    """Asked by itself, and says what it believes."""

    def __init__(self, context: PluginContext) -> None:
        pressure = context.capabilities["balloon"].pressure
        self._pages: list[bytearray] = []
        self._lease = pressure.register_pressure_handler(self._shrink)  # kept: with it goes the handler

    def _shrink(self, nbytes: int) -> int:
        released = 0
        while self._pages and released < nbytes:
            released += len(self._pages.pop())
        return released


# end snippet


# snippet: report
def drop_and_measure(pressure: PressureControl, pages: list[bytearray]) -> ReleaseReceipt | None:
    before = pressure.look()
    believed = sum(map(len, pages))
    pages.clear()
    return pressure.report_memory_released(believed, before=before)


# end snippet


def control() -> PressureControl:
    return PressureControl(PressureSettings(), log=logging.getLogger("balloon.test"))


def context(pressure: PressureControl) -> Any:
    driver = SimpleNamespace(pressure=pressure)
    charge = SimpleNamespace(release=lambda: None)
    return SimpleNamespace(capabilities={"balloon": driver}, charge=lambda nbytes, label: charge)


def test_pictures_come_from_the_cache_until_memory_is_short() -> None:
    """They are drawn again after it."""
    pressure = control()
    thumbnails = Thumbnails(context(pressure))
    assert thumbnails.picture("cat") == thumbnails.picture("cat")
    assert thumbnails._pictures.statistics().hits == 1
    receipt = pressure.release_memory(1)
    assert receipt is not None
    assert receipt.believed_bytes > 0
    assert thumbnails.picture("cat") == b"cat" * 1000
    pressure.close()


def test_handler_is_asked_as_the_page_says() -> None:
    """For what is missing, and it gives whole pages."""
    pressure = control()
    index = Index(context(pressure))
    index._pages += [bytearray(MIB), bytearray(MIB)]
    assert pressure.release_own(MIB // 2) == MIB
    assert len(index._pages) == 1
    pressure.close()


def test_report_has_what_was_believed() -> None:
    """And what was measured beside it."""
    pressure = control()
    receipt = drop_and_measure(pressure, [bytearray(MIB)])
    assert receipt is not None
    assert (receipt.asked_bytes, receipt.collected) == (MIB, True)
    pressure.close()
