"""The store of a plugin has the plugin's name, which may be longer than a store's."""

from __future__ import annotations

from pathlib import Path

import pytest
from weighbridge_hookspecs import LoadFailed

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

SOURCE = "class Plugin:\n    def __init__(self, context):\n        context.store.put('depth', b'9')\n"


def test_a_plugin_whose_name_is_too_long_for_a_store_is_told_so(
    temporary_plugin: TemporaryPlugin, tmp_path: Path
) -> None:
    """Its load says how long a name may be, and what to do about it; one of the full length has a store."""
    names = {"n" * 64: "long", "n" * 65: "longer"}
    for name, package in names.items():
        temporary_plugin(name, SOURCE, distribution=f"weighbridge-{package}")
    fits, too_long = names
    with IsolatedHost(store=tmp_path / "store.sqlite3") as host:
        host.allow(fits, too_long)
        assert host.load(fits).leases["store"] == 1
        with pytest.raises(LoadFailed) as caught:
            host.load(too_long)
    assert caught.value.residue == ()
    assert "weighbridge_hookspecs.errors.ConfigurationError: the namespace 'nnn" in caught.value.traceback
    assert caught.value.cause.endswith(
        "has 65 bytes: 64 is the most. Give another name; a plugin's is that of its entry point"
    )
