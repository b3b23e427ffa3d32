"""The records of accounts and receipts: frozen, made by names, and sent to other processes."""

from __future__ import annotations

import pickle
from typing import Any, Final, get_type_hints

import attrs
import pytest

from weighbridge.accounting.account import Account, LoadWeighing, Statement
from weighbridge.accounting.attribution import Attribution
from weighbridge.accounting.imports import ModuleWeight
from weighbridge.accounting.meters import Reading
from weighbridge.accounting.modules import Split
from weighbridge.admission.weights import Weight
from weighbridge.leases.ledger import LedgerStatistics, Revocation
from weighbridge.leases.schedule import ScheduleStatistics
from weighbridge.reclaim.receipt import Receipt, Step, Survivor

RECORDS: Final[list[type[Any]]] = [
    Account,
    Attribution,
    LedgerStatistics,
    LoadWeighing,
    ModuleWeight,
    Reading,
    Receipt,
    Revocation,
    ScheduleStatistics,
    Split,
    Statement,
    Step,
    Survivor,
    Weight,
]
every_record = pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)


def sample(cls: type[Any]) -> Any:
    """A record with something in every field that has no default."""
    return cls(**{field.name: 7 for field in attrs.fields(cls) if field.default is attrs.NOTHING})


@every_record
def test_a_record_of_the_host_cannot_be_changed(cls: type[Any]) -> None:
    """What was drawn stays as it was drawn, in every field."""
    record = sample(cls)
    for field in attrs.fields(cls):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(record, field.name, "changed")


@every_record
def test_a_record_of_the_host_is_made_by_names(cls: type[Any]) -> None:
    """No figure can be mistaken for its neighbour."""
    assert all(field.kw_only for field in attrs.fields(cls))


@every_record
def test_a_record_of_the_host_survives_pickling(cls: type[Any]) -> None:
    """A weighing in another process sends its records home."""
    record = sample(cls)
    assert pickle.loads(pickle.dumps(record)) == record


@every_record
def test_a_figure_names_its_unit(cls: type[Any]) -> None:
    """A plain number is a count of something, or its name ends in its unit."""
    counts = {
        "blocks", "calls", "collections", "failures", "made", "modules", "modules_dropped", "objects", "objects_after",
        "objects_before", "returned", "threads", "timers", "watched",
    }  # fmt: skip
    hints = get_type_hints(cls)
    numbers = {name for name in hints if hints[name] in (int, float, int | None, float | None)}
    named = {name for name in numbers if name.endswith(("_bytes", "seconds", "_share"))}
    assert numbers - named <= counts


def test_a_receipt_says_by_how_much_the_process_shrank() -> None:
    """Resident bytes before less those after; below 0 if it grew."""
    receipt = sample(Receipt)
    assert attrs.evolve(receipt, resident_before_bytes=9, resident_after_bytes=4).reclaimed_resident_bytes == 5
    assert attrs.evolve(receipt, resident_before_bytes=4, resident_after_bytes=9).reclaimed_resident_bytes == -5
