"""Fixtures for authors of plugins. pytest finds them by itself once ``weighbridge[testing]`` is installed.

def test_lantern_leaves_nothing_behind(assert_unloads_clean):
    assert_unloads_clean("lantern")
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

# pytest imports this module in every run on a machine where weighbridge is installed: the host is imported on first use
if TYPE_CHECKING:
    from .host import Host
    from .isolation import IsolatedHost
    from .reclaim.receipt import Receipt


class TemporaryPlugin(Protocol):
    """What the fixture ``temporary_plugin`` gives."""

    def __call__(
        self,
        name: str,
        source: str | Mapping[str, str],
        *,
        attribute: str = "Plugin",
        manifest: str | None = None,
        version: str = "1.0",
        distribution: str | None = None,
        package: str | None = None,
        group: str = "weighbridge",
    ) -> str:
        """Install a plugin for the length of one test; the name of its package."""


class AssertUnloadsClean(Protocol):
    """What the fixture ``assert_unloads_clean`` gives."""

    def __call__(self, name: str, *, rounds: int = 5, dependencies: bool = False) -> Receipt:
        """Load and unload `name` again and again, and fail with names if anything stays; the last receipt."""


@pytest.fixture
def weighbridge_host() -> Iterator[IsolatedHost]:
    """A host that looks at nothing but what the test names: ``weighbridge_host.allow("lantern")``."""
    from .isolation import IsolatedHost

    with IsolatedHost() as host:
        yield host


@pytest.fixture
def temporary_plugin(
    weighbridge_host: IsolatedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TemporaryPlugin]:
    """Install small plugins for the length of one test; ``weighbridge_host`` finds them."""
    from .fabricate import write_distribution

    site = tmp_path / "temporary-plugins"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    packages: list[str] = []

    def install(name: str, source: str | Mapping[str, str], **options: Any) -> str:
        packages.append(write_distribution(site, name, source, **options))
        importlib.invalidate_caches()
        weighbridge_host.allow(name)
        return packages[-1]

    yield install
    for module in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[module]


@pytest.fixture
def assert_unloads_clean(weighbridge_host: IsolatedHost) -> AssertUnloadsClean:
    """Load and unload a plugin again and again, and fail with names if anything stays."""

    def check(name: str, *, rounds: int = 5, dependencies: bool = False) -> Receipt:
        weighbridge_host.allow(name)
        weighbridge_host.discover()
        receipt = _round(weighbridge_host, name, dependencies)
        before = _held_by_the_process()
        for _ in range(rounds - 1):
            receipt = _round(weighbridge_host, name, dependencies)
        after = _held_by_the_process()
        grown = [f"{what} {had} -> {after[what]}" for what, had in before.items() if after[what] > had]
        assert not grown, f"{name}: after {rounds} rounds there are more of: {', '.join(grown)}"
        return receipt

    return check


def _round(host: Host, name: str, dependencies: bool) -> Receipt:
    host.load(name)
    receipt = host.unload(name, dependencies=dependencies)
    assert receipt.state == "unloaded", f"{name}: {_survivors(receipt)}"
    assert not receipt.failures, f"{name}: unloading went wrong: {'; '.join(receipt.failures)}"
    return receipt


def _survivors(receipt: Receipt) -> str:
    lines = [f"{len(receipt.survivors)} of {receipt.watched} outlived the plugin:"]
    lines += [f"  {one.kind} {one.name} <- {' <- '.join(one.chain) or one.tie}" for one in receipt.survivors]
    return "\n".join(lines)


def _held_by_the_process() -> dict[str, int]:
    figures = {"threads": threading.active_count()}
    if os.path.isdir("/proc/self/fd"):
        figures["descriptors"] = len(os.listdir("/proc/self/fd"))
    return figures
