"""What modules may take, kept in the store from one process to the next."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from weighbridge_hookspecs import Store, WeighbridgeError

from .config import ModuleConfig

_CHANGED: Final = "config/"
_REGISTERED: Final = "registered/"


class KeptConfigs:
    """What was changed at run time, for as long as the module is registered with the same configuration as then.

    :param store: gives the store; None where there is none.
    :param log: is told of what cannot be kept or read: modules work without it.
    """

    def __init__(self, store: Callable[[], Store | None], log: logging.Logger) -> None:
        self._store: Final = store
        self._log: Final = log

    def effective(self, module_id: str, registered: ModuleConfig) -> ModuleConfig:
        """What is in force for a module that is registered with this configuration."""
        store = self._store()
        if store is None:
            return registered
        try:
            before, changed = store.get(_REGISTERED + module_id), store.get(_CHANGED + module_id)
            if before == registered.to_json():
                return registered if changed is None else _with_grants(ModuleConfig.from_json(changed), registered)
            store.put(_REGISTERED + module_id, registered.to_json())
            store.delete(_CHANGED + module_id)
        except WeighbridgeError as error:
            self._log.warning("what the module %r may take is neither read nor kept: %s", module_id, error)
        return registered

    def change(self, module_id: str, config: ModuleConfig) -> None:
        """Keep what was changed.

        :raises StorageFailed, StorageDamaged: if the store did not take it.
        """
        store = self._store()
        if store is not None:
            store.put(_CHANGED + module_id, config.to_json())


def _with_grants(config: ModuleConfig, registered: ModuleConfig) -> ModuleConfig:
    """Grants are never kept: they come with each registration."""
    return config.changed(wasi=registered.wasi)
