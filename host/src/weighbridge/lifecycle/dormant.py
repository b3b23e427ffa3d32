"""Plugins that sleep until the first call: stubs in place of their hooks.

A command line with ten plugins should not import ten plugins to print its help
(https://github.com/simonw/llm/issues/732). A manifest with ``activation = "first-call"`` lists the hooks of the plugin,
and the host registers a stub for each of them that the *application* calls. Hooks that the host itself calls to run a
life cycle never wake anybody: a sleeping plugin holds nothing that could be released, reported or observed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pluggy
from weighbridge_hookspecs import hookimpl, hooks

from .plugin import Plugin
from .states import State

Wake = Callable[[str, Mapping[str, Any]], Any]

_OURS = frozenset(name for name in vars(hooks) if name.startswith("weighbridge_")) - {"weighbridge_allocate_buffer"}


def may_sleep(plugin: Plugin, relay: pluggy.HookRelay) -> tuple[str, ...]:
    """The hooks that would wake a plugin; none if it is to be loaded at once, or nothing could ever wake it."""
    manifest = plugin.candidate.manifest
    if plugin.opaque or manifest is None or manifest.activation != "first-call" or plugin.state is State.DORMANT:
        return ()
    callers = {name: getattr(relay, name, None) for name in manifest.hooks if name not in _OURS}
    if any(caller is None or not caller.has_spec() for caller in callers.values()):
        return ()  # the arguments of a hook without a specification are not known
    return tuple(callers)


def make_stub(names: Sequence[str], relay: pluggy.HookRelay, wake: Wake) -> object:
    """An object that implements the hooks `names`; a call of one of them is a call of `wake`."""
    return type("DormantPlugin", (), {name: _stub(name, getattr(relay, name), wake) for name in names})()


def _stub(name: str, caller: pluggy.HookCaller, wake: Wake) -> Any:
    """pluggy reads the names of the arguments off the function, so it needs the right ones."""
    assert caller.spec is not None
    names = caller.spec.argnames
    arguments = ", ".join(("self", *names))
    mapping = ", ".join(f"{one!r}: {one}" for one in names)
    scope: dict[str, Any] = {"wake": wake}
    exec(f"def {name}({arguments}):\n    return wake({name!r}, {{{mapping}}})\n", scope)
    return hookimpl(scope[name])
