"""Reloading: the next generation is made from what is on disk now."""

from __future__ import annotations

import pytest
from weighbridge_hookspecs import LoadFailed, MissingRequirement, NotLoaded, hookspec

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

SAYING = """\
from weighbridge_hookspecs import hookimpl
class Plugin:
    def __init__(self, context):
        pass
    @hookimpl
    def say(self):
        return {}
"""
ON_BASE = '[plugin]\nrequires = ["base"]\n'


class Words:
    """The application's hook."""

    @hookspec
    def say(self) -> int:
        raise NotImplementedError


@pytest.fixture
def host(weighbridge_host: IsolatedHost) -> IsolatedHost:
    weighbridge_host.add_hookspecs(Words)
    return weighbridge_host


def states(host: IsolatedHost) -> dict[str, str]:
    return {one.name: one.state for one in host.plugins()}


def test_a_reload_sees_edited_source_and_the_new_version(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Even if the edit left the size of the file as it was, within the same second."""
    for generation in range(1, 4):
        temporary_plugin("base", SAYING.format(generation), version=f"{generation}.0")
        account = host.reload("base") if generation > 1 else host.load("base")
        assert account.version == f"{generation}.0"
        assert host.hook.say() == [generation]
    assert host.receipts["base"].version == "2.0"


def test_dependents_come_back(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """In the order in which they require each other."""
    temporary_plugin("base", SAYING.format("'base'"))
    temporary_plugin("mid", SAYING.format("'mid'"), manifest=ON_BASE)
    temporary_plugin("top", SAYING.format("'top'"), manifest='[plugin]\nrequires = ["mid", "base"]\n')
    host.load_all()
    assert host.reload("base").plugin == "base"
    assert states(host) == {"base": "active", "mid": "active", "top": "active"}
    assert host.hook.say() == ["top", "mid", "base"]  # the last registered is called first
    assert host.statistics().loads == 6


def test_a_dependent_that_another_one_came_to_require_is_there_already(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """The manifests of the new generation count."""
    temporary_plugin("base", SAYING.format(1))
    temporary_plugin("a", SAYING.format(2), manifest=ON_BASE)
    temporary_plugin("b", SAYING.format(3), manifest=ON_BASE)
    host.load_all()
    temporary_plugin("a", SAYING.format(2), manifest='[plugin]\nrequires = ["base", "b"]\n')
    host.reload("base")
    assert host.hook.say() == [2, 3, 1]


def test_a_dependent_that_fails_does_not_stop_the_others(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """The first error is raised when all were tried."""
    temporary_plugin("base", SAYING.format(1))
    for name in ("a", "b", "c"):
        temporary_plugin(name, SAYING.format(2), manifest=ON_BASE)
    host.load_all()
    temporary_plugin("a", "raise RuntimeError('out of oil')", manifest=ON_BASE)
    temporary_plugin("b", "raise RuntimeError('out of ink')", manifest=ON_BASE)
    with pytest.raises(LoadFailed, match=r"^a: .*out of oil"):
        host.reload("base")
    assert states(host) == {"a": "failed", "b": "failed", "base": "active", "c": "active"}


def test_a_generation_that_fails_leaves_the_old_one_gone(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """And its dependents with it; a mended one can be loaded."""
    temporary_plugin("base", SAYING.format(1))
    temporary_plugin("top", SAYING.format(2), manifest=ON_BASE)
    host.load_all()
    temporary_plugin("base", "raise RuntimeError('out of oil')")
    with pytest.raises(LoadFailed):
        host.reload("base")
    assert states(host) == {"base": "failed", "top": "discovered"}
    with pytest.raises(MissingRequirement):
        host.load("top")
    temporary_plugin("base", SAYING.format(3))
    host.load("top")
    assert host.hook.say() == [2, 3]


def test_what_is_not_loaded_cannot_be_reloaded(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """It is not loaded either."""
    temporary_plugin("base", SAYING.format(1))
    with pytest.raises(NotLoaded):
        host.reload("base")
    assert states(host) == {"base": "discovered"}


def test_what_was_uninstalled_meanwhile_is_unknown(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """It was there until now, so that the old generation is seen out properly."""
    from weighbridge_hookspecs import UnknownPlugin

    temporary_plugin("base", SAYING.format(1))
    temporary_plugin("other", SAYING.format(2))
    host.load_all()
    temporary_plugin("gone", SAYING.format(1), distribution="weighbridge-base")
    with pytest.raises(UnknownPlugin):
        host.reload("base")
    assert host.receipts["base"].state == "unloaded"
    assert host.hook.say() == [2]
