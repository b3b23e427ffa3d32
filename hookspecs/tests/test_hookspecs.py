"""The hooks: what their docstrings have to say, what they are called with, and what the package drags in."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, Final, get_type_hints

import pluggy
import pytest
import weighbridge_hookspecs
from weighbridge_hookspecs import hookimpl, hooks, hookspec, markers, services

HOOKS: Final[dict[str, FunctionType]] = {
    name: value for name, value in vars(hooks).items() if isinstance(value, FunctionType)
}
ARGUMENTS: Final = {
    "weighbridge_estimate": ("candidate",),
    "weighbridge_adjust": ("request",),
    "weighbridge_admit": ("request",),
    "weighbridge_activate": (),
    "weighbridge_veto_unload": ("plugin", "reason"),
    "weighbridge_deactivate": ("reason",),
    "weighbridge_release_memory": ("request",),
    "weighbridge_report_memory": (),
    "weighbridge_capabilities": ("registry",),
    "weighbridge_examine": (),
    "weighbridge_allocate_buffer": ("size", "node"),
    "weighbridge_scalable": (),
    "weighbridge_command": ("arguments", "terminal"),
    "weighbridge_event": ("event",),
}
ASKED: Final = {name for name, hook in HOOKS.items() if get_type_hints(hook)["return"] is not type(None)}
every_hook = pytest.mark.parametrize("name", sorted(HOOKS))


def said(name: str) -> str:
    """The docstring of a hook, as one line."""
    return " ".join((inspect.getdoc(HOOKS[name]) or "").split())


def test_the_hooks_and_their_arguments_are_these() -> None:
    """A hook or an argument that is renamed breaks every plugin, so the list is written down here a second time."""
    assert {name: tuple(inspect.signature(hook).parameters) for name, hook in HOOKS.items()} == ARGUMENTS


@every_hook
def test_a_hook_says_when_in_the_life_cycle_it_runs(name: str) -> None:
    """One sentence of every docstring begins with "Runs"."""
    assert len(re.findall(r"(?:^|[.] )Runs ", said(name))) == 1


@every_hook
def test_a_hook_says_what_raising_means(name: str) -> None:
    """Every docstring has one "Raising:", which comes after when it runs."""
    text = said(name)
    assert text.count("Raising: ") == 1
    assert text.index("Runs ") < text.index("Raising: ")


@every_hook
def test_a_hook_that_is_asked_something_says_what_none_means(name: str) -> None:
    """A hook with an answer says what None means, before what raising means; one without has no need to."""
    text = said(name)
    assert text.count(" None: ") == (name in ASKED)
    assert name not in ASKED or text.index("Runs ") < text.index(" None: ") < text.index("Raising: ")


def test_the_hooks_that_are_asked_something_are_these() -> None:
    """The others only tell, so pluggy's list of their results means nothing."""
    told = {"weighbridge_activate", "weighbridge_deactivate", "weighbridge_capabilities", "weighbridge_event"}
    assert HOOKS.keys() - told == ASKED


@every_hook
def test_a_hook_with_a_number_names_its_unit(name: str) -> None:
    """Where a plain number is given, the docstring ends with what it counts."""
    hints = get_type_hints(HOOKS[name])
    if hints["return"] == int | None or "size" in hints:
        assert ("Unit: the exit code" if name == "weighbridge_command" else "Unit: bytes") in said(name)
    else:
        assert "Unit:" not in said(name)


@every_hook
def test_a_hook_begins_with_what_it_is_for(name: str) -> None:
    """The first line is one sentence of its own, for tables of hooks."""
    first = (inspect.getdoc(HOOKS[name]) or "").partition("\n\n")[0]
    assert first
    assert not first.startswith(("Runs", "None", "Raising", "Unit"))
    assert "\n" not in first


def test_pluggy_takes_every_hook_under_our_project_name() -> None:
    """Each function is marked as a specification, and those of which the first answer counts are marked so."""
    manager = pluggy.PluginManager(weighbridge_hookspecs.PROJECT_NAME)
    manager.add_hookspecs(hooks)
    assert {name for name in HOOKS if getattr(manager.hook, name).has_spec()} == set(HOOKS)
    first = {name for name in HOOKS if getattr(manager.hook, name).spec.opts["firstresult"]}
    assert first == {"weighbridge_estimate", "weighbridge_allocate_buffer"}
    assert {name for name in HOOKS if "The first answer counts" in said(name)} == first


def test_an_implementation_takes_as_many_arguments_as_it_needs() -> None:
    """A plugin that leaves an argument out is called without it."""

    class Plugin:
        @hookimpl
        def weighbridge_allocate_buffer(self, size: int) -> str:
            return f"{size} bytes"

    manager = pluggy.PluginManager(weighbridge_hookspecs.PROJECT_NAME)
    manager.add_hookspecs(hooks)
    manager.register(Plugin())
    manager.check_pending()
    assert manager.hook.weighbridge_allocate_buffer(size=7, node=None) == "7 bytes"


def test_the_names_that_everybody_has_to_agree_on() -> None:
    """Project name, groups and version of the contract are what design and wheels out there rely on."""
    assert (markers.PROJECT_NAME, markers.GROUP, markers.MANIFEST_GROUP) == (
        "weighbridge",
        "weighbridge",
        "weighbridge.manifest",
    )
    assert markers.API_VERSION == 1
    assert (hookspec.project_name, hookimpl.project_name) == ("weighbridge", "weighbridge")
    assert all(name.startswith(f"{markers.PROJECT_NAME}_") for name in HOOKS)


# -- the package -------------------------------------------------------------------------------------------------------


def test_all_is_sorted_and_complete() -> None:
    """``__all__`` names every public name of the package and nothing else: constants, then classes, then functions."""
    public = {
        name
        for name, value in vars(weighbridge_hookspecs).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    names = list(weighbridge_hookspecs.__all__)
    assert set(names) == public
    assert names == sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name))


def test_all_covers_what_the_modules_define() -> None:
    """No protocol, record or error was forgotten: what a module defines in public, the package offers."""
    defined = {
        name
        for module in (services, weighbridge_hookspecs.records, weighbridge_hookspecs.errors)
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    assert defined <= set(weighbridge_hookspecs.__all__)


def test_the_version_is_that_of_the_distribution() -> None:
    """``__version__`` and the metadata of what is installed agree."""
    from importlib.metadata import version

    assert weighbridge_hookspecs.__version__ == version("weighbridge-hookspecs")


def test_the_contract_imports_nothing_of_the_host() -> None:
    """In a fresh interpreter, importing the contract brings pluggy, attrs and the standard library, nothing else."""
    script = "import sys; before = set(sys.modules); import weighbridge_hookspecs; print(*(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, encoding="utf-8")
    tops = {name.partition(".")[0] for name in run.stdout.split()}
    foreign = {top for top in tops if top not in sys.stdlib_module_names and not top.startswith("_")}
    assert foreign == {"weighbridge_hookspecs", "pluggy", "attr", "attrs"}


def test_no_source_of_the_contract_names_the_host() -> None:
    """Not even an import inside a function or under TYPE_CHECKING leads upwards."""
    folder = Path(inspect.getfile(weighbridge_hookspecs)).parent
    for source in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not [name for name in names if name.partition(".")[0] == "weighbridge"], source.name


# -- services ----------------------------------------------------------------------------------------------------------


def protocols() -> dict[str, type[Any]]:
    """Every protocol of the services."""
    return {name: value for name, value in vars(services).items() if getattr(value, "_is_protocol", False)}


def test_every_service_is_a_protocol_with_documented_members() -> None:
    """The contract holds no code: a service is a protocol, and each of its members says what it promises."""
    classes = {
        name
        for name, value in vars(services).items()
        if isinstance(value, type) and value.__module__ == services.__name__
    }
    assert classes == {name for name, value in protocols().items() if value.__module__ == services.__name__}
    for name in classes:
        for member, value in vars(getattr(services, name)).items():
            if isinstance(value, FunctionType | property) and not member.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{member}"


def test_what_a_plugin_gets_from_its_context_is_this() -> None:
    """The plugin's only door to the outside: a member more is a promise more, and a member less breaks plugins."""
    members = {name for name in vars(services.PluginContext) if not name.startswith("_")}
    assert members == {
        "budget", "buffers", "bus", "cache", "capabilities", "charge", "every", "gate", "journal", "log", "name",
        "relieve", "secret", "settings", "spawn", "store", "track",
    }  # fmt: skip


def test_a_scalable_subsystem_is_known_by_its_members() -> None:
    """The one protocol that the host checks at run time tells a complete object from one that lacks a method."""

    def nothing(*arguments: object) -> None:
        """Stand for any member."""

    members: dict[str, Callable[..., None]] = dict.fromkeys(
        ("limits", "metrics", "reconfigure", "backpressure"), nothing
    )
    assert isinstance(type("Whole", (), dict(members))(), services.ScalableSubsystem)
    for missing in members:
        partly = {name: value for name, value in members.items() if name != missing}
        assert not isinstance(type("Partial", (), dict(partly))(), services.ScalableSubsystem)


def test_a_threading_event_is_a_stop_token() -> None:
    """What the docstring of StopToken promises is so: ``threading.Event`` has both methods, with the same arguments."""
    event = threading.Event()
    token: services.StopToken = event
    assert not token.is_set()
    assert token.wait(timeout=0) is False
    event.set()
    assert token.is_set()
    assert token.wait(timeout=None) is True
