"""What plugins weighed last time: small files in the user's cache folder.

One file for each entry point, distribution, version and Python, so that two weighings at once cannot spoil each other's
and a decision reads one small file. A file that cannot be used is the same as none: an estimate is then the declared or
the default one.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import attrs
from weighbridge_hookspecs import Candidate

if TYPE_CHECKING:
    from pathlib import Path

_PYTHON: Final = f"{sys.implementation.name}-{sys.version_info.major}.{sys.version_info.minor}"


@attrs.frozen(kw_only=True)
class Weight:
    """What one plugin weighed in a fresh interpreter of its own."""

    traced_bytes: int
    resident_bytes: int
    import_seconds: float

    @property
    def estimate_bytes(self) -> int:
        """What its load is expected to take: by the ceiling it is resident bytes that count, if they are more."""
        return max(self.traced_bytes, self.resident_bytes)


class Weights:
    """The folder of weights.

    :param folder: where; by default the user's cache folder, or ``WEIGHBRIDGE_CACHE``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where the weights are kept."""
        if self._folder is None:
            self._folder = _default_folder()
        return self._folder

    def get(self, candidate: Candidate) -> Weight | None:
        """What `candidate` weighed, in this version and on this Python; None if it was never weighed."""
        import json

        try:
            content: Any = json.loads(self._file(candidate).read_bytes())
            return Weight(
                traced_bytes=_count(content["traced_bytes"]),
                resident_bytes=_count(content["resident_bytes"]),
                import_seconds=_seconds(content["import_seconds"]),
            )
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None

    def put(self, candidate: Candidate, weight: Weight) -> Path:
        """Keep a weight; the file is replaced in one step.

        :raises OSError: if the folder cannot be written; an older weight is then left as it was.
        """
        import json
        import tempfile

        file = self._file(candidate)
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
        try:
            with open(descriptor, "w", encoding="utf-8") as stream:
                json.dump(attrs.asdict(weight), stream)
            os.replace(temporary, file)
        except BaseException:
            os.unlink(temporary)
            raise
        return file

    def _file(self, candidate: Candidate) -> Path:
        from urllib.parse import quote

        parts = (candidate.distribution, candidate.version, candidate.group, candidate.name)
        return self.folder / _PYTHON / ("+".join(quote(part, safe="") for part in parts) + ".json")


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no number of bytes")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"{value!r} is no number of seconds")
    return float(value)


def _default_folder() -> Path:
    from pathlib import Path

    if folder := os.environ.get("WEIGHBRIDGE_CACHE"):
        return Path(folder) / "weights"
    import platformdirs

    return Path(platformdirs.user_cache_dir("weighbridge", appauthor=False)) / "weights"
