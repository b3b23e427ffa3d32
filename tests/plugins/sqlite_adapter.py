"""Leaves an adapter and a converter in sqlite3."""

from __future__ import annotations

import sqlite3

TIE = "sqlite3 adapter"

KIND = f"load_{__name__}"


class Load:
    pass


def adapt(load: Load) -> str:
    return "seven"


def convert(content: bytes) -> str:
    return content.decode() + "!"


sqlite3.register_adapter(Load, adapt)
sqlite3.register_converter(KIND, convert)


def intact() -> object:
    connection = sqlite3.connect(":memory:", detect_types=sqlite3.PARSE_DECLTYPES)
    try:
        connection.execute(f"create table scales (load {KIND})")
        connection.execute("insert into scales values (?)", (Load(),))
        return str(connection.execute("select load from scales").fetchone()[0])
    finally:
        connection.close()
