"""Manifests: what a plugin says about itself in its ``weighbridge.toml``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from weighbridge_hookspecs.errors import ManifestError
from weighbridge_hookspecs.records import Manifest

from ..units import format_bytes, parse_bytes
from .entry_points import EntryPoint
from .metadata import printable
from .nearest import did_you_mean
from .resources import Lookup

_Check: TypeAlias = Callable[[Any], object]

# What TOML calls the types: https://toml.io/en/v1.0.0. Dates and times have no entry.
_KINDS: Final = {
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    list: "an array",
    dict: "a table",
}


def read_manifest(point: EntryPoint, path: Sequence[str] | None = None) -> Manifest:
    """Read the manifest that an entry point of the group ``weighbridge.manifest`` names; nothing is imported.

    :param path: what is searched instead of ``sys.path``.
    :raises ManifestError: if it is missing, is not TOML, or breaks the schema.
    """
    package, file = _reference(point)
    lookup = Lookup(package, file, path)
    try:
        data = lookup.read(point)
    except Exception as error:  # A loader may be a stranger's code, and a damaged zip file has errors of its own.
        raise _broken(point, f"{point.value!r} cannot be read: {type(error).__name__}: {error}") from None
    if data is None:
        advice = f"Add {file} to what {point.distribution} packs, or correct its entry point"
        raise _broken(
            point, f"there is no {file} in {package} (looked in {', '.join(dict.fromkeys(lookup.tried))})", advice
        )
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _broken(point, f"{point.value!r} is not UTF-8 (byte {error.start})", "Save it as UTF-8") from None
    return parse_manifest(text, plugin=point.name, distribution=point.distribution)


def parse_manifest(text: str, *, plugin: str, distribution: str) -> Manifest:
    """Check a manifest against the schema, and return what it says.

    :raises ManifestError: with all its problems, not only the first.
    """
    import tomllib

    problems: list[str] = []
    values: dict[str, Any] = {}
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"it is not TOML: {error}")
    else:
        values = _values(document, problems)
        problems += _contradictions(values, plugin)
    if problems:
        raise _invalid(plugin, distribution, problems)
    return Manifest(**values)


def _reference(point: EntryPoint) -> tuple[str, str]:
    package, _, rest = point.value.partition(":")
    package, file = package.strip(), rest.partition("[")[0].strip()
    parts = file.split("/")
    is_inside = file.isprintable() and "\\" not in file and not {"", ".", ".."}.intersection(parts)
    if is_inside and all(part.isidentifier() for part in package.split(".")):
        return package, file
    advice = f'Write {point.name} = "package:weighbridge.toml", with a path that stays inside the package'
    raise _broken(point, f"the entry point {point.value!r} in [{point.group}] does not name a file", advice)


def _broken(point: EntryPoint, problem: str, advice: str | None = None) -> ManifestError:
    message = f"the manifest in {point.distribution} {point.version}".rstrip()
    advice = advice or f"Install {point.distribution} again"
    problem = printable(problem)
    return ManifestError(f"{message} cannot be used: {problem}", plugin=point.name, problems=(problem,), advice=advice)


def _invalid(plugin: str, distribution: str, problems: Sequence[str]) -> ManifestError:
    message = f"the manifest in {distribution} is not valid: {problems[0]}"
    if len(problems) > 1:
        message = "\n  - ".join([f"the manifest in {distribution} has {len(problems)} problems:", *problems])
    advice = f"Correct this and install {distribution} again"
    return ManifestError(message, plugin=plugin, problems=tuple(problems), advice=advice)


def _values(document: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for table, content in document.items():
        if table not in _TABLES:
            problems.append(f"{table}: {_unknown(table, _TABLES)}")
        elif not isinstance(content, dict):
            problems.append(f"{table}: must be a table, is {_kind(content)}; write [{table}]")
        else:
            _take(table, content, values, problems)
    return values


def _take(table: str, content: Mapping[str, Any], values: dict[str, Any], problems: list[str]) -> None:
    keys = _TABLES[table]
    for key, value in content.items():
        if key not in keys:
            problems.append(f"{table}.{key}: {_unknown(key, keys)}")
            continue
        field, check = keys[key]
        try:
            values[field] = check(value)
        except ValueError as error:
            problems += [f"{table}.{key}: {problem}" for problem in error.args]


def _unknown(key: str, keys: Collection[str]) -> str:
    home = next((table for table, fields in _TABLES.items() if key in fields), None)
    if home is not None:
        return f"no such key here; it belongs in [{home}]"
    kind = "table" if keys is _TABLES else "key"
    return f"no such {kind}{did_you_mean(key, keys) or '; there are ' + ', '.join(keys)}"


def _contradictions(values: Mapping[str, Any], plugin: str) -> list[str]:
    problems = [
        f"plugin.{key}: {plugin!r} is this plugin itself; take it out"
        for key in ("requires", "after", "conflicts")
        if plugin in values.get(key, ())
    ]
    both = sorted(set(values.get("requires", ())) & set(values.get("conflicts", ())) - {plugin})
    problems += [f"plugin.conflicts: {name!r} is also in plugin.requires; take it out of one" for name in both]
    load, peak = values.get("load_bytes"), values.get("peak_bytes")
    if load is not None and peak is not None and peak < load:
        problems.append(f"memory.peak: {format_bytes(peak)} is below memory.load, {format_bytes(load)}; raise it")
    return problems


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a date or a time")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, is {_kind(value)}")
    return value


def _version(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"must be an integer, is {_kind(value)}")
    if value < 1:
        raise ValueError(f"must be 1 or more, is {value}")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"must be an array of strings, is {_kind(value)}")
    problems = [
        f"item {number} must be a string, is {_kind(item)}"
        for number, item in enumerate(value, 1)
        if not isinstance(item, str)
    ]
    if problems:
        raise ValueError(*problems)
    return tuple(value)


def _hooks(value: Any) -> tuple[str, ...]:
    """Hooks of the contract, told by their prefix, have to be in it; the others are the application's own."""
    from weighbridge_hookspecs import PROJECT_NAME, hooks

    known = [name for name in vars(hooks) if name.startswith(f"{PROJECT_NAME}_")]
    names = _names(value)
    unknown = [name for name in names if name.startswith(f"{PROJECT_NAME}_") and name not in known]
    unknown += [name for name in names if not name.isidentifier()]
    if unknown:
        raise ValueError(*(f"the contract has no hook {name!r}{did_you_mean(name, known)}" for name in unknown))
    return names


def _one_of(*choices: str) -> _Check:
    def check(value: Any) -> str:
        if value not in choices:
            shown = repr(value) if isinstance(value, str) else _kind(value)
            raise ValueError(f"must be {' or '.join(map(repr, choices))}, is {shown}")
        return str(value)

    return check


_TABLES: Final[Mapping[str, Mapping[str, tuple[str, _Check]]]] = MappingProxyType(
    {
        "plugin": {
            "summary": ("summary", _text),
            "api": ("api", _version),
            "requires": ("requires", _names),
            "provides": ("provides", _names),
            "after": ("after", _names),
            "conflicts": ("conflicts", _names),
            "hooks": ("hooks", _hooks),
            "activation": ("activation", _one_of("eager", "first-call")),
            "unload": ("unload", _one_of("clean", "restart", "never")),
        },
        "memory": {
            "load": ("load_bytes", parse_bytes),
            "peak": ("peak_bytes", parse_bytes),
        },
    }
)
"""Table, key, field of the record, and what checks the value."""
