"""Drawing accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs

from ..accounting.account import Account, Statement
from ..accounting.attribution import SHARED, Attribution, tag
from ..accounting.meters import Meter
from ..accounting.modules import ModuleBooks
from ..admission.budget import Budget, unused_promise
from ..hooks import Hooks
from .plugin import Plugin
from .states import State


@attrs.define
class Bookkeeper:
    """Draws accounts of plugins, and the statement of them all."""

    hooks: Hooks
    books: ModuleBooks
    meter: Meter
    plugins: Callable[[], Iterable[Plugin]]
    held: Callable[[], Iterable[Plugin]]

    def held_bytes(self) -> Mapping[str, int]:
        """Bytes on each account, without asking any plugin: quick enough for a decision."""
        return {plugin.name: plugin.held_bytes for plugin in self.held()}

    def promised_bytes(self) -> int:
        """What loaded plugins may still take of the peaks that they declared."""
        return sum(unused_promise(plugin.promised_peak_bytes, plugin.held_bytes) for plugin in self.held())

    def account(self, plugin: Plugin) -> Account:
        """The account of one plugin, drawn now."""
        return self._draw(plugin, self._attribution())

    def statement(self, usage_bytes: int, budget: Budget | None) -> Statement:
        """All accounts, drawn now."""
        attribution = self._attribution()
        plugins = list(self.plugins())
        accounts = tuple(self._draw(plugin, attribution) for plugin in plugins if plugin.is_held)
        shared = attribution.shared_bytes if attribution else self.books.shared_bytes()
        stdlib = self.books.stdlib_bytes()
        stranded = sum(plugin.stranded_bytes for plugin in plugins)
        rest: int | None = None
        if shared is not None and stdlib is not None and all(one.traced_bytes is not None for one in accounts):
            rest = usage_bytes - sum(one.held_bytes for one in accounts) - shared - stdlib - stranded
        return Statement(
            plugins=accounts,
            shared_bytes=shared,
            stdlib_bytes=stdlib,
            stranded_bytes=stranded,
            unattributed_bytes=rest,
            usage_bytes=usage_bytes,
            ceiling_bytes=budget.ceiling_bytes if budget else None,
            promised_bytes=self.promised_bytes(),
            headroom_bytes=budget.headroom_bytes if budget else None,
        )

    def _attribution(self) -> Attribution | None:
        owners = {file: next(iter(users)) if len(users) == 1 else SHARED for file, users in self.books.files().items()}
        owners.update({tag(plugin.name): plugin.name for plugin in self.held()})
        return self.meter.attribution(owners)

    def _draw(self, plugin: Plugin, attribution: Attribution | None) -> Account:
        split = self.books.split(plugin.name)
        traced = plugin.weighing.traced_bytes if plugin.weighing else None
        leased = plugin.leases.nbytes
        own = (
            None
            if traced is None
            else plugin.unleased(traced) - split.shared_brought_bytes - split.stdlib_bytes + split.adopted_bytes
        )
        # what the standard library took for its own modules stands on a line of its own
        live = (
            max(0, attribution.by_plugin.get(plugin.name, 0) - split.stdlib_bytes - split.left_bytes - leased)
            if attribution
            else None
        )
        # one that was dismissed cannot be asked: its last report stands
        dismissed = plugin.state is State.FAILED
        reported = plugin.reported_bytes if dismissed else self.hooks.report_memory(plugin.name)
        plugin.reported_bytes = reported or 0
        native = None if reported is None else plugin.charges.total_bytes + reported
        loaded = plugin.unleased(plugin.weighed_bytes)
        python = next(figure for figure in (live, own, loaded) if figure is not None)
        held = plugin.stranded_bytes if plugin.state is State.STRANDED else python + leased + (native or 0)
        plugin.peak_bytes = max(plugin.peak_bytes, held)
        manifest = plugin.candidate.manifest
        return Account(
            plugin=plugin.name,
            distribution=plugin.candidate.distribution,
            version=plugin.candidate.version,
            group=plugin.candidate.group,
            state=plugin.state.value,
            traced_bytes=own,
            shared_bytes=None if traced is None else split.shared_bytes,
            stdlib_bytes=None if traced is None else split.stdlib_bytes,
            objects=plugin.weighing.blocks if plugin.weighing else 0,
            modules=split.modules,
            native_bytes=native,
            charges=plugin.charges.by_label(),
            leased_bytes=leased,
            held_bytes=held,
            live_bytes=live,
            peak_bytes=plugin.peak_bytes,
            resident_bytes=plugin.weighing.resident_bytes if plugin.weighing else 0,
            import_seconds=plugin.weighing.import_seconds if plugin.weighing else 0.0,
            leases=plugin.leases.statistics().held,
            estimate_bytes=plugin.estimate_bytes,
            declared_load_bytes=manifest.load_bytes if manifest else None,
            declared_peak_bytes=manifest.peak_bytes if manifest else None,
        )
