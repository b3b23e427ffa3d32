"""Whose modules are whose: the plugin's own, its dependencies', the standard library's, the host's."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from .references import is_module, namespace_of

Kind: TypeAlias = Literal["own", "dependency", "stdlib"]
_HOST: Final = frozenset({"weighbridge", "weighbridge_hookspecs"})


def classify(name: str, own: str) -> Kind:
    """Whether a module is the plugin's `own` package (dotted name), the standard library's, or a dependency's."""
    if name == own or name.startswith(own + "."):
        return "own"
    if top_level(name) in sys.stdlib_module_names:
        return "stdlib"
    return "dependency"


def own_package(module: str) -> str:
    """The outermost package of `module` that is not a namespace package: what one distribution owns.

    Ask when its import was tried: only then can namespace packages be told from others.
    """
    parts = module.split(".")
    for end in range(1, len(parts)):
        name = ".".join(parts[:end])
        loaded = sys.modules.get(name)
        if not is_module(loaded) or namespace_of(loaded).get("__file__") is not None:
            return name
    return module


def top_level(name: str) -> str:
    """The first part of a dotted name."""
    return name.partition(".")[0]


def is_hosts(name: str) -> bool:
    """Whether a module is of the host or of its contract. Those stay, and are on nobody's account."""
    return top_level(name) in _HOST


@attrs.frozen
class Ownership:
    """To which distribution modules belong, as far as metadata tells; else their package has to do."""

    package: str
    """The outermost package of the plugin's entry point."""
    distribution: str | None = None
    """The plugin's own. None where its metadata does not name the package: an editable install, for one."""
    claims: Mapping[str, str] = attrs.field(factory=dict)
    """Package or module to its distribution. What is below a package belongs to it, too."""

    def kind(self, name: str) -> Kind:
        """Whose the module is. Its entry point's package goes before the standard library, and that before the rest."""
        kind, owner = classify(name, self.package), self._owner(name)
        if kind == "stdlib" or owner is None:
            return kind
        return "own" if owner == self.distribution else "dependency"

    def group(self, name: str) -> str:
        """What goes and stays together with it: the distribution, or the package where that is not known."""
        owner = self._owner(name)
        if owner is not None:
            return owner
        return self.package if classify(name, self.package) == "own" else top_level(name)

    def _owner(self, name: str) -> str | None:
        """The distribution that claims the closest package."""
        if self.distribution is None and classify(name, self.package) == "own":
            return None
        return next((self.claims[one] for one in _upwards(name) if one in self.claims), None)


def _upwards(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]
