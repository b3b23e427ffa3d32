"""Leaves an archive format and an unpack format in shutil."""

from __future__ import annotations

import shutil
from typing import Any

TIE = "shutil format"

NAME = f"crate_{__name__}"


def pack(base_name: str, base_dir: str, **named: Any) -> str:
    return f"{base_name}.{NAME}"


def unpack(filename: str, extract_dir: str) -> None:
    raise shutil.ReadError(filename)


shutil.register_archive_format(NAME, pack, [], "a crate")
shutil.register_unpack_format(NAME, [f".{NAME}"], unpack)


def intact() -> object:
    names = [name for name, *_ in shutil.get_unpack_formats() if name == NAME]
    return [shutil.make_archive("full", NAME, root_dir=None), names]
