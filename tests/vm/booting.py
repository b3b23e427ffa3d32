"""What tests boot from: made once for a run of pytest, with lines about what takes long on the terminal."""

from __future__ import annotations

import platform
import sys
from contextlib import ExitStack
from typing import Final

import pytest

from .image import Image, image
from .packages import missing_tools

BOOTABLE: Final = pytest.StashKey[Image]()


def bootable(config: pytest.Config) -> Image:
    """A kernel and its first file system; the tests are skipped, loudly, where they cannot be made."""
    if reason := reason_against():
        say(config, f"NOT TESTED: {reason}.\nThe tests in a real machine with four nodes and a balloon are left out.")
        pytest.skip(reason)
    if BOOTABLE not in config.stash:
        until_the_end = ExitStack()
        config.add_cleanup(until_the_end.close)
        config.stash[BOOTABLE] = until_the_end.enter_context(image(lambda text: say(config, text)))
    return config.stash[BOOTABLE]


def reason_against() -> str | None:
    """Why no machine can be had here."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"the machine is made of packages for Linux on x86_64, and this is {sys.platform} {platform.machine()}"
    missing = missing_tools()
    return f"packages are downloaded with apt, and this machine lacks {', '.join(missing)}" if missing else None


def say(config: pytest.Config, text: str) -> None:
    """Print at once, past what keeps the output of tests back."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        for line in text.splitlines():
            print(f"vm: {line}", flush=True)
