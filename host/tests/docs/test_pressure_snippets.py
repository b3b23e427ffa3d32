"""The page on staying under a ceiling, run."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any

import pytest
from weighbridge_hookspecs import Event, hookimpl

from weighbridge import Host, MemorySettings
from weighbridge.accounting.process import ProcessMemory, trim
from weighbridge.cli.config import read_config
from weighbridge.testing import TemporaryPlugin

log = logging.getLogger("harbour")
HERE = Path(__file__).parent
MIB = 1 << 20
MANIFEST = '[plugin]\nsummary = "keeps everything"\n[memory]\nload = "1 MiB"\n'

CONFIG = """\
# snippet: config
ceiling = "64 MiB"

[memory]
enabled = true
check_seconds = 1

[plugins.attic]
seconds = 0.25
# end snippet
"""


@pytest.fixture(autouse=True)
def _like_a_fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, temporary_plugin: TemporaryPlugin) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WEIGHBRIDGE_CEILING", raising=False)
    monkeypatch.delenv("WEIGHBRIDGE_DISABLED_PLUGINS", raising=False)
    source = (HERE / "sample_attic.py").read_text(encoding="utf-8")
    temporary_plugin("attic", source, attribute="Attic", manifest=MANIFEST)


# snippet: observer
class Barometer:
    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        if event.kind == "pressure":
            log.warning("memory pressure is %s: %s", event.level, event.reason)


# end snippet


def _ceiling(room: int) -> int:
    """So many MiB more than the process occupies now."""
    gc.collect()
    trim()
    return ProcessMemory().resident_bytes() + room * MIB


def test_a_plugin_gives_back_what_it_can_do_without(caplog: pytest.LogCaptureFixture) -> None:
    """Above the threshold it is asked, the process shrinks, and observers hear of both changes."""
    ceiling = _ceiling(60)
    settings = MemorySettings(enabled=True, pressure_threshold=0.95, check_seconds=3600, follow_limits=False)
    # snippet: host
    with Host(ceiling, memory=settings) as host:
        host.register("barometer", Barometer())
        host.load("attic")
        host.capabilities["attic"].carry_up(boxes=65)
        memory = host.check_memory()  # now, instead of in a while
        assert memory is not None
        assert memory.level == "nominal"
        assert memory.usage_bytes < memory.threshold_bytes
        reaction = host.statistics().last_reaction
        assert reaction is not None
        assert reaction.freed_bytes > 0
        assert reaction.efforts[-1].plugin == "attic"
    # end snippet
    told = [record.getMessage().partition(":")[0] for record in caplog.records if record.name == log.name]
    assert told == ["memory pressure is elevated", "memory pressure is nominal"]


def test_who_rents_beyond_the_ceiling_is_told_the_figures() -> None:
    """And what fits is lent."""
    with Host(_ceiling(60), memory=MemorySettings(enabled=True, check_seconds=3600, follow_limits=False)) as host:
        host.load("attic")
        attic: Any = host.capabilities["attic"]
        assert attic.answer(1000) == "200, 1000 bytes"
        code, used, _, ceiling, *_ = attic.answer(1 << 40).split()
        assert (code, int(ceiling)) == ("503,", host.ceiling_bytes)
        assert int(used) > MIB
        del attic


def test_the_configuration_file_bounds_the_process(tmp_path: Path) -> None:
    """The ceiling is a key of its own, and everything that is not said is as by default."""
    file = tmp_path / "edge.toml"
    file.write_text(CONFIG, encoding="utf-8")
    config = read_config(file)
    assert config.ceiling == "64 MiB"
    assert config.memory == MemorySettings(enabled=True, check_seconds=1)
    assert config.plugins["attic"] == {"seconds": 0.25}
