"""Small real distributions on disk, as an installer leaves them: for tests, and for the demonstration."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.util import cache_from_source
from pathlib import Path

from weighbridge_hookspecs import GROUP, MANIFEST_GROUP


def write_distribution(
    site: Path,
    name: str,
    source: str | Mapping[str, str],
    *,
    attribute: str = "Plugin",
    manifest: str | None = None,
    version: str = "1.0",
    distribution: str | None = None,
    package: str | None = None,
    group: str = GROUP,
) -> str:
    """Write a package and its metadata into the folder `site`, which has to be on ``sys.path`` to be found.

    Another version of the distribution is replaced, as an installer does it.

    :param name: name of the entry point.
    :param source: text of the package's ``__init__.py``, or texts by file name.
    :param attribute: what of the package the entry point names; empty for the package itself.
    :param manifest: text of its ``weighbridge.toml``; None for a plugin without one.
    :param distribution: by default ``weighbridge-<name>``.
    :param package: by default the distribution's name, as an identifier; dotted for one in a namespace package.
    :returns: the package's name.
    """
    distribution = f"weighbridge-{name}" if distribution is None else distribution
    package = distribution.replace("-", "_").replace(".", "_") if package is None else package
    files = {"__init__.py": source} if isinstance(source, str) else dict(source)
    entry_points = f"[{group}]\n{name} = {package}{f':{attribute}' if attribute else ''}\n"
    if manifest is not None:
        files["weighbridge.toml"] = manifest
        entry_points += f"\n[{MANIFEST_GROUP}]\n{name} = {package}:weighbridge.toml\n"
    folder = package.replace(".", "/")
    _write(site / folder, files)
    stem = distribution.replace("-", "_")
    for other in site.glob(f"{stem}-*.dist-info"):
        shutil.rmtree(other)
    info = f"{stem}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    record = [*(f"{folder}/{file},," for file in files), f"{info}/METADATA,,", f"{info}/RECORD,,"]
    _write(
        site / info,
        {
            "METADATA": metadata,
            "entry_points.txt": entry_points,
            "INSTALLER": "weighbridge\n",
            "RECORD": "\n".join(record),
        },
    )
    return package


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        # an edit within the same second that leaves the size as it was would be taken for the file that was compiled
        if file.suffix == ".py":
            Path(cache_from_source(str(file))).unlink(missing_ok=True)
