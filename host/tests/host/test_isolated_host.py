"""The host for tests, and the small distributions that it is given."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import attrs
import pytest
from weighbridge_hookspecs import Candidate, ConfigurationError, UnknownPlugin

from weighbridge import Host, Weight, Weights
from weighbridge.fabricate import write_distribution
from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

GOOD = "class Plugin:\n    def __init__(self, context):\n        pass\n"


def test_what_happens_to_be_installed_is_not_looked_at(weighbridge_host: IsolatedHost) -> None:
    """The error says what to do instead, for a test's author has just forgotten it."""
    for call in (weighbridge_host.discover, weighbridge_host.load_all, lambda: weighbridge_host.load("lantern")):
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert str(caught.value) == (
            "this host does not take what happens to be installed. "
            "Name what the test is about: weighbridge_host.allow('name'), or make it with temporary_plugin"
        )


def test_only_what_was_allowed_is_found(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """A plugin that is installed, too, is unknown to the test."""
    temporary_plugin("mine", GOOD)
    assert [one.name for one in weighbridge_host.discover().candidates] == ["mine"]
    with pytest.raises(UnknownPlugin):
        weighbridge_host.load("lantern")


def test_a_problem_of_somebody_else_is_nobodys_here(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Only what is wrong with an allowed plugin is reported."""
    temporary_plugin("mine", GOOD, manifest="api = 1\n")
    site = Path(next(entry for entry in sys.path if (Path(entry) / "weighbridge_mine").is_dir()))
    write_distribution(site, "other", GOOD, manifest="api = 1\n")
    assert [one.plugin for one in weighbridge_host.discover().problems] == ["mine"]


def test_the_operators_settings_do_not_reach_a_test(
    temporary_plugin: TemporaryPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does what a plugin weighed on this machine: a test means the same everywhere."""
    monkeypatch.setenv("WEIGHBRIDGE_CEILING", "1 B")
    monkeypatch.setenv("WEIGHBRIDGE_DISABLED_PLUGINS", "*")
    temporary_plugin("mine", GOOD)

    @attrs.define
    class Spy(Weights):
        asked: int = 0

        def get(self, candidate: Candidate) -> Weight | None:
            self.asked += 1
            return Weight(traced_bytes=1, resident_bytes=1, import_seconds=0.0)

    with IsolatedHost() as host:
        host.allow("mine")
        assert host.ceiling_bytes is None
        assert host.load("mine").estimate_bytes == 10 * 1024 * 1024
    spy = Spy()
    with IsolatedHost(weights=spy, disabled=["other"]) as host:
        host.allow("mine")
        assert (host.load("mine").estimate_bytes, spy.asked) == (1, 1)


def test_a_host_of_ones_own_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The difference is only in the host for tests."""
    monkeypatch.setenv("WEIGHBRIDGE_CEILING", "7 GiB")
    monkeypatch.setenv("WEIGHBRIDGE_DISABLED_PLUGINS", " mine ,")
    write_distribution(tmp_path, "mine", GOOD)
    with Host(path=[str(tmp_path)]) as host:
        host.discover()
        assert host.ceiling_bytes == 7 << 30
        assert [(one.state, one.reason) for one in host.plugins()] == [("blocked", "disabled by 'mine'")]
        assert repr(host) == "<Host group='weighbridge' ceiling=7.0 GiB loaded=0>"


def test_a_distribution_is_one_that_an_installer_could_have_left(tmp_path: Path) -> None:
    """Python's own reader of metadata agrees."""
    package = write_distribution(
        tmp_path, "lamp", {"__init__.py": GOOD, "oil/__init__.py": ""}, manifest="[plugin]\n", version="2.1"
    )
    assert package == "weighbridge_lamp"
    (found,) = importlib.metadata.distributions(path=[str(tmp_path)])
    assert (found.metadata["Name"], found.version) == ("weighbridge-lamp", "2.1")
    assert {(one.group, one.name, one.value) for one in found.entry_points} == {
        ("weighbridge", "lamp", "weighbridge_lamp:Plugin"),
        ("weighbridge.manifest", "lamp", "weighbridge_lamp:weighbridge.toml"),
    }
    assert {str(file) for file in found.files or () if file.parts[0] == package} == {
        "weighbridge_lamp/__init__.py",
        "weighbridge_lamp/oil/__init__.py",
        "weighbridge_lamp/weighbridge.toml",
    }


def test_names_can_be_chosen(tmp_path: Path) -> None:
    """Of the distribution, the package, the attribute and the group; an empty attribute is the package itself."""
    write_distribution(
        tmp_path, "lamp", GOOD, distribution="acme-lamp", package="acme.lamp", attribute="", group="acme.plugins"
    )
    (found,) = importlib.metadata.distributions(path=[str(tmp_path)])
    assert found.metadata["Name"] == "acme-lamp"
    assert [(one.group, one.name, one.value) for one in found.entry_points] == [("acme.plugins", "lamp", "acme.lamp")]
    assert [str(file) for file in found.files or () if file.parts[0] == "acme"] == ["acme/lamp/__init__.py"]
    assert (tmp_path / "acme" / "lamp" / "__init__.py").read_text() == GOOD


def test_another_version_replaces_the_one_before(tmp_path: Path) -> None:
    """Two versions side by side would be found in no particular order."""
    for version in ("1.0", "2.0"):
        write_distribution(tmp_path, "lamp", GOOD, version=version)
    write_distribution(tmp_path, "lamp-oil", GOOD, version="9.0")
    assert sorted(one.version for one in importlib.metadata.distributions(path=[str(tmp_path)])) == ["2.0", "9.0"]


def test_an_edit_is_not_hidden_by_what_was_compiled(tmp_path: Path) -> None:
    """Python takes a file of the same size and second for the one that it compiled."""
    write_distribution(tmp_path, "lamp", "X = 1")
    compiled = Path(importlib.util.cache_from_source(str(tmp_path / "weighbridge_lamp" / "__init__.py")))
    compiled.parent.mkdir()
    compiled.write_bytes(b"stale")
    write_distribution(tmp_path, "lamp", "X = 2")
    assert not compiled.exists()
