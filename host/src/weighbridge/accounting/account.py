"""The records that an account is drawn as. ``docs/accounting.md`` says what each number means."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class LoadWeighing:
    """What was measured while one plugin was imported, constructed and activated."""

    traced_bytes: int | None
    """All bytes that Python allocated and still held at the end, modules of the standard library included; those of
    modules that the host imported for itself meanwhile are not."""
    blocks: int
    resident_bytes: int
    import_seconds: float
    seconds: float


@attrs.frozen(kw_only=True)
class Account:
    """What one plugin holds."""

    plugin: str
    distribution: str
    version: str
    group: str
    state: str
    traced_bytes: int | None
    """Python memory that its load brought in: its own modules and objects, and dependencies that only it uses. What it
    leased meanwhile is not in it."""
    shared_bytes: int | None
    """Of modules that it uses together with other plugins. On the shared line, not in ``held_bytes``."""
    stdlib_bytes: int | None
    """Of modules of the standard library that were imported because of it. They stay."""
    objects: int
    """Blocks of Python's allocator, about one for each object."""
    modules: int
    """Modules that it uses and that its load or another plugin's brought in, without the standard library's."""
    native_bytes: int | None
    """Memory that Python cannot see: charges and what the plugin reports; None if its report failed."""
    charges: Mapping[str, int]
    leased_bytes: int
    """Of buffers, rented and idle, and of what is in caches, as the plugin weighed it."""
    held_bytes: int
    """``live_bytes`` if known, else ``traced_bytes``, else all that its load took, and ``leased_bytes`` and
    ``native_bytes`` on top."""
    live_bytes: int | None
    """Python memory now, by traceback, without what it leases; None unless the meter is ``trace``."""
    peak_bytes: int
    """The highest ``held_bytes`` that any drawing of the account has seen."""
    resident_bytes: int
    """By how much the process grew during the load. Not exact: see the page."""
    import_seconds: float
    leases: Mapping[str, int]
    estimate_bytes: int
    declared_load_bytes: int | None
    declared_peak_bytes: int | None


@attrs.frozen(kw_only=True)
class Statement:
    """All accounts at one moment. Plugins, shared, stdlib and unattributed add up to what the process occupies."""

    plugins: tuple[Account, ...]
    shared_bytes: int | None
    stdlib_bytes: int | None
    stranded_bytes: int
    """Still charged to plugins that were unloaded but did not come back whole."""
    unattributed_bytes: int | None
    """The rest: the interpreter, the application, the host, and memory that the allocator keeps."""
    usage_bytes: int
    """Resident bytes of the process."""
    ceiling_bytes: int | None
    promised_bytes: int
    """What loaded plugins were promised and do not hold yet."""
    headroom_bytes: int | None
