"""What a module may take, and how the plugin scales.

Four voices have a say in what a module gets, in this order: the operator's defaults (``[plugins.wasm.module]``), the
module's own custom section ``weighbridge``, the registration, and changes at run time. A module is a stranger's code:
it may ask for as many pages as the operator allows and for its state to be kept, and may bind itself more tightly; it
cannot give itself time, fuel, instances, files or an environment. What is registered by hand decides over the section.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final, Literal

import attrs
from weighbridge_hookspecs import ConfigurationError, StateRefused, StorageDamaged

PAGE_BYTES: Final = 65_536
"""A page of linear memory: https://webassembly.github.io/spec/core/exec/runtime.html#page-size"""
MOST_PAGES: Final = 65_536
"""What 32-bit addresses reach: 4 GiB."""
DEFAULT_MAX_PAGES: Final = 256
"""16 MiB."""
DEFAULT_CACHE_BYTES: Final = 2**28
"""What compiled modules may take on disk."""
MOST_SECTION_BYTES: Final = 64 * 1024
"""What a custom section ``weighbridge`` may have: it comes from strangers."""
MOST_FUEL: Final = 2**63 - 1
"""What an integer of TOML reaches: https://toml.io/en/v1.0.0#integer"""

_FORMAT: Final = 1
_MOST_SECONDS: Final = 10 * 365 * 24 * 3600.0
_MIB: Final = 1024 * 1024

Reset = Literal["auto", "never"]
LoadSourceName = Literal["external", "system"]


# -- what a value may be -----------------------------------------------------------------------------------------------


def _senseless(name: str, value: object, advice: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is {_shown(value)}", step="configure", advice=advice)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@attrs.frozen
class _Whole:
    """A whole number within bounds, both of them allowed; None too where it is `optional`."""

    least: int
    most: int
    unit: str
    optional: bool = False

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None and self.optional:
            return
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= self.most:
            none = ", or None" if self.optional else ""
            advice = f"Give a whole number of {self.unit} from {self.least:,} to {self.most:,}{none}"
            raise _senseless(attribute.name, value, advice)


@attrs.frozen
class _Seconds:
    """A number of seconds above 0, of at most ten years; None too where it is `optional`."""

    optional: bool = False

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None and self.optional:
            return
        if not _is_number(value) or not 0 < value <= _MOST_SECONDS:  # type: ignore[operator] # a number by now
            none = ", or None" if self.optional else ""
            raise _senseless(
                attribute.name, value, f"Give a number of seconds above 0 and up to {_MOST_SECONDS:,.0f}{none}"
            )


@attrs.frozen
class _OneOf:
    """One of a few words."""

    words: tuple[str, ...]

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, str) or value not in self.words:
            raise _senseless(
                attribute.name,
                value,
                "Give " + " or ".join(f'"{word}"' for word in self.words) + _near(value, self.words),
            )


def _flag(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise _senseless(attribute.name, value, "Give true or false")


def _near(word: object, words: Iterable[str]) -> str:
    found = get_close_matches(word, list(words), n=1) if isinstance(word, str) else []
    return f'; did you mean "{found[0]}"?' if found else ""


def _owned(value: object) -> object:
    """A copy of a table that can be written as JSON, so that its owner cannot change it afterwards."""
    if callable(grants := getattr(value, "to_mapping", None)):
        value = grants()
    if not isinstance(value, Mapping):
        return value
    try:
        return json.loads(json.dumps(_plain(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        # nothing of it is shown: an environment may hold secrets
        advice = "Give a table of texts, numbers, flags and lists of them"
        problem = ConfigurationError("wasi is a table with what cannot be used", step="configure", advice=advice)
    raise problem


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _table(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, dict):
        raise _senseless(attribute.name, value, "Give a table, or None")


def _keys(grants: Mapping[str, Any] | None) -> str:
    return "None" if grants is None else f"<{', '.join(grants)}>"


def _checked_keys(settings: object, known: Iterable[str], where: str) -> Mapping[str, Any]:
    if not isinstance(settings, Mapping):
        raise _senseless(where, settings, "Give a table")
    words = sorted(known)
    for key in settings:
        if key not in words:
            raise ConfigurationError(
                f"{where} has {_shown(key)}, which is no setting",
                step="configure",
                advice=f"It may have {', '.join(words)}{_near(key, words)}",
            )
    return settings


# -- one module --------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ModuleConfig:
    """What one module may take.

    :raises ConfigurationError: if a value makes no sense; the text names the setting, the value and what is allowed.
    """

    max_pages: int = attrs.field(default=DEFAULT_MAX_PAGES, validator=_Whole(1, MOST_PAGES, "pages of 64 KiB"))
    """What the linear memory of an instance may grow to, in pages of 65,536 bytes."""
    fuel: int | None = attrs.field(default=None, validator=_Whole(1, MOST_FUEL, "units of fuel", optional=True))
    """What one call may use, about one unit for each instruction; None: no limit."""
    deadline_seconds: float | None = attrs.field(default=30.0, validator=_Seconds(optional=True))
    """How long one call may take; None: for ever."""
    max_table_elements: int = attrs.field(default=10_000, validator=_Whole(0, 2**32 - 1, "elements"))
    """What the tables of an instance may grow to, each."""
    max_idle: int = attrs.field(default=10, validator=_Whole(0, 1_000_000, "instances"))
    """Pristine instances that are kept for the next call, at most."""
    keep_state: bool = attrs.field(default=False, validator=_flag)
    """Whether its memory and globals are kept from call to call, and written to the store when they are suspended."""
    reset: Reset = attrs.field(default="auto", validator=_OneOf(("auto", "never")))
    """``"auto"``: an instance is reset in place where that can be complete; ``"never"``: each call gets a fresh one."""
    wasi: Mapping[str, Any] | None = attrs.field(
        default=None, converter=_owned, validator=_table, hash=False, repr=_keys
    )
    """What it is granted of WASI: what :meth:`WasiGrants.read` takes, or such an object; None: nothing."""

    @classmethod
    def read(cls, settings: Mapping[str, Any], *, base: ModuleConfig | None = None) -> ModuleConfig:
        """`base` (the defaults without one) with `settings` over it.

        :raises ConfigurationError: if a key is unknown (the nearest is named), or a value makes no sense.
        """
        return attrs.evolve(base or cls(), **_checked_keys(settings, _names(cls), "the configuration of a module"))

    def changed(self, **changes: Any) -> ModuleConfig:
        """This one with other values.

        :raises ConfigurationError: as `read` does.
        """
        return self.read(changes, base=self)

    def asked(self, wishes: Mapping[str, Any], *, max_pages_allowed: int = MOST_PAGES) -> ModuleConfig:
        """This one, with what a module's own section asks for as far as a stranger's module is given it.

        :param wishes: what :func:`read_section` gave.
        :param max_pages_allowed: the most pages that it gets, in pages of 65,536 bytes.
        """
        given = dict(wishes)
        for name in _TIGHTENED.intersection(given):
            given[name] = _tighter(getattr(self, name), given[name])
        if "max_pages" in given:
            given["max_pages"] = min(given["max_pages"], max_pages_allowed)
        return attrs.evolve(self, **given)

    def to_json(self) -> bytes:
        """As it is kept in the store: UTF-8, the keys sorted.

        Without what is granted of WASI: an environment may hold secrets, so grants come with each registration.
        """
        document = {"format": _FORMAT, **attrs.asdict(self, filter=attrs.filters.exclude("wasi"))}
        return json.dumps(document, ensure_ascii=False, allow_nan=False, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> ModuleConfig:
        """What `to_json` wrote; it grants nothing of WASI.

        :raises StorageDamaged: if it is no JSON, or its values make no sense.
        :raises StateRefused: if a newer version of the plugin wrote it.
        """
        try:
            document = json.loads(content)
            number = document.pop("format")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise StorageDamaged("a kept configuration is no JSON of ours", step="configure") from None
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise StorageDamaged(f"a kept configuration has the format {_shown(number)}", step="configure")
        if number > _FORMAT:
            raise StateRefused(
                f"a kept configuration has the format {number}",
                step="configure",
                wanted=f"at most {_FORMAT}",
                advice="Use the version of the plugin that wrote it, or register the module again",
            )
        try:
            return cls.read(document)
        except ConfigurationError as error:
            raise StorageDamaged(f"a kept configuration makes no sense: {error}", step="configure") from None


def _names(record: type[attrs.AttrsInstance]) -> frozenset[str]:
    return frozenset(field.name for field in attrs.fields(record))


_TIGHTENED: Final = frozenset({"fuel", "deadline_seconds", "max_table_elements", "max_idle"})
_ASKED: Final = _TIGHTENED | {"max_pages", "keep_state", "reset"}


def _tighter(bound: float | None, wish: float | None) -> float | None:
    """The smaller of two bounds; None is none."""
    bounds = [each for each in (bound, wish) if each is not None]
    return min(bounds) if bounds else None


# -- what a module says of itself --------------------------------------------------------------------------------------


def read_section(content: bytes | memoryview) -> dict[str, Any]:
    """What a module's custom section ``weighbridge`` asks for: TOML in UTF-8, such as ``max_pages = 1024``.

    The keys are those of :class:`ModuleConfig` but ``wasi``: a module cannot grant itself anything. ``reset`` may only
    be ``"never"``. What is asked for is checked here, and given by :meth:`ModuleConfig.asked`.

    :raises ConfigurationError: if it is too long, no TOML, has another key, or a value that makes no sense.
    """
    where = "the custom section 'weighbridge'"
    if len(content) > MOST_SECTION_BYTES:
        raise ConfigurationError(
            f"{where} has {len(content):,} bytes", step="configure", advice=f"Write at most {MOST_SECTION_BYTES:,}"
        )
    wishes = dict(_checked_keys(_toml(content, where), _ASKED, where))
    try:
        ModuleConfig.read(wishes)
        if wishes.get("reset") == "auto":
            raise _senseless("reset", "auto", 'Write "never", or leave it out: whether a reset is sound is found out')
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.message}", step="configure", advice=error.advice) from None
    return wishes


def _toml(content: bytes | memoryview, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(str(content, "utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{where} is no UTF-8 at byte {error.start}", step="configure") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{where} is no TOML: {error}", step="configure") from None
    except (ValueError, RecursionError):  # a number of more digits than Python reads, or tables nested without end
        raise ConfigurationError(f"{where} is no TOML that can be read", step="configure") from None


# -- the plugin --------------------------------------------------------------------------------------------------------


def _module_defaults(value: object) -> object:
    return value if isinstance(value, ModuleConfig) else ModuleConfig.read(value)  # type: ignore[arg-type] # checked there


def _folder(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value or "\0" in value):
        raise _senseless(attribute.name, value, "Give the path of a folder, or leave it out")


@attrs.frozen(kw_only=True)
class ScalingSettings:
    """The plugin's settings.

    :raises ConfigurationError: if a value makes no sense; the text names the setting, the value and what is allowed.
    """

    module: ModuleConfig = attrs.field(factory=ModuleConfig, converter=_module_defaults)
    """What a module gets that neither its section nor its registration says otherwise."""
    max_pages_allowed: int = attrs.field(default=MOST_PAGES, validator=_Whole(1, MOST_PAGES, "pages of 64 KiB"))
    """The most pages that any module gets, whoever asks for more."""
    load_source: LoadSourceName = attrs.field(default="external", validator=_OneOf(("external", "system")))
    """What the limit on calls follows: the CPU time that others take, or all of it."""
    interval_seconds: float = attrs.field(default=10.0, validator=_Seconds())
    """How often load is looked at."""
    max_idle_instances: int = attrs.field(default=100, validator=_Whole(0, 1_000_000, "instances"))
    """Pristine instances that are kept, of all modules together."""
    max_idle_bytes: int = attrs.field(default=16 * _MIB, validator=_Whole(0, 2**63 - 1, "bytes"))
    """What they may have resident, together."""
    max_waiting: int = attrs.field(default=1_000, validator=_Whole(0, 1_000_000, "calls"))
    """Calls that wait for a place; one more is `Saturated`."""
    wait_seconds: float = attrs.field(default=30.0, validator=_Seconds())
    """How long a call waits for a place."""
    cache_folder: str | None = attrs.field(default=None, validator=_folder)
    """Where compiled modules are kept; None: in ``WEIGHBRIDGE_CACHE``, or the user's cache folder."""
    cache_bytes: int = attrs.field(default=DEFAULT_CACHE_BYTES, validator=_Whole(0, 2**63 - 1, "bytes"))
    """What compiled modules may take on disk; 0: none is kept."""

    def __attrs_post_init__(self) -> None:
        self._check_pages(self.module, "the default of the modules")

    def config_for(
        self, section: bytes | memoryview | None = None, registration: ModuleConfig | Mapping[str, Any] | None = None
    ) -> ModuleConfig:
        """What a module gets.

        :param section: its own custom section ``weighbridge``, if it has one.
        :param registration: a table over the defaults and the section; a `ModuleConfig` decides alone.
        :raises ConfigurationError: if one of them makes no sense, or the registration wants more pages than are
            allowed. A section that wants more gets what is allowed.
        """
        if isinstance(registration, ModuleConfig):
            return self.checked(registration)
        wishes = {} if section is None else read_section(section)
        asked = self.module.asked(wishes, max_pages_allowed=self.max_pages_allowed)
        return self.checked(ModuleConfig.read({} if registration is None else registration, base=asked))

    def checked(self, config: ModuleConfig) -> ModuleConfig:
        """`config`, if the operator allows it that many pages.

        :raises ConfigurationError: if not.
        """
        self._check_pages(config, "the configuration of a module")
        return config

    def bounded(self, config: ModuleConfig) -> ModuleConfig:
        """`config`, with no more pages than the operator allows: one that was kept may be of times when it was more."""
        if config.max_pages <= self.max_pages_allowed:
            return config
        return config.changed(max_pages=self.max_pages_allowed)

    def _check_pages(self, config: ModuleConfig, where: str) -> None:
        if config.max_pages > self.max_pages_allowed:
            raise ConfigurationError(
                f"{where} has max_pages of {config.max_pages:,}",
                step="configure",
                wanted=f"at most {self.max_pages_allowed:,}, the setting max_pages_allowed",
                advice="Ask for fewer, or let the operator allow more",
            )


def read_settings(settings: Mapping[str, Any]) -> ScalingSettings:
    """The plugin's settings.

    :raises ConfigurationError: if a key is unknown (the nearest is named), or a value makes no sense.
    """
    known = _names(ScalingSettings)
    return ScalingSettings(**_checked_keys(settings, known, "[plugins.wasm]"))
