"""The two pluggy markers, and the names everybody has to agree on."""

from __future__ import annotations

from typing import Final

import pluggy

PROJECT_NAME: Final = "weighbridge"
"""Project name of the pluggy markers; the prefix of every hook."""

GROUP: Final = "weighbridge"
"""Entry-point group of plugins that are written to this contract."""

MANIFEST_GROUP: Final = "weighbridge.manifest"
"""Entry-point group that names a plugin's manifest: ``X = "weighbridge_X:weighbridge.toml"``."""

API_VERSION: Final = 1
"""Version of this contract, for the manifest's ``plugin.api``."""

hookspec: Final = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl: Final = pluggy.HookimplMarker(PROJECT_NAME)
