"""Charges: bytes by label, whoever adds them and in whatever order."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.leases.charges import Charges

AMOUNTS = st.lists(st.tuples(st.sampled_from(["heap", "map", "gpu"]), st.integers(1, 1 << 40)))


@given(AMOUNTS)
def test_the_total_is_the_sum_of_the_labels(amounts: list[tuple[str, int]]) -> None:
    """Label by label and altogether, the books show what was added."""
    charges = Charges()
    for label, nbytes in amounts:
        charges.add(label, nbytes)
    assert charges.total_bytes == sum(nbytes for _, nbytes in amounts)
    labels = {label for label, _ in amounts}
    assert charges.by_label() == {label: sum(nbytes for other, nbytes in amounts if other == label) for label in labels}


@given(AMOUNTS, st.randoms())
def test_what_is_taken_off_again_leaves_nothing(amounts: list[tuple[str, int]], random: Any) -> None:
    """Once everything was given back, in any order, not even the labels are left."""
    charges = Charges()
    for label, nbytes in amounts:
        charges.add(label, nbytes)
    random.shuffle(amounts)
    for label, nbytes in amounts:
        charges.add(label, -nbytes)
    assert charges.total_bytes == 0
    assert charges.by_label() == {}


def test_the_labels_are_a_copy_that_cannot_be_written() -> None:
    """What was drawn stays as it is, and nobody writes the books through it."""
    charges = Charges()
    charges.add("heap", 123 * 8)
    drawn: Any = charges.by_label()
    charges.add("heap", 1)
    assert drawn == {"heap": 984}
    with pytest.raises(TypeError):
        drawn["heap"] = 0


def test_nothing_charged_is_0() -> None:
    """Nothing on the account is known to be nothing."""
    charges = Charges()
    charges.add("heap", 0)
    assert (charges.total_bytes, dict(charges.by_label())) == (0, {})


def test_eight_threads_lose_no_byte() -> None:
    """Adding and taking off at once from eight threads comes to the exact sum."""
    charges, start = Charges(), threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for _ in range(1000):
            charges.add("shared", 10)
            charges.add(f"own {number}", 1)
            charges.add("shared", -3)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert charges.by_label() == {"shared": 8 * 7000, **{f"own {number}": 1000 for number in range(8)}}


def test_a_finalizer_may_charge_in_the_midst_of_a_charge() -> None:
    """The collector runs it in the thread that has the lock: nothing waits for itself, and nothing is lost."""
    charges = Charges()

    class Label(str):
        """Runs something when it is looked up."""

        __slots__ = ()

        def __hash__(self) -> int:
            if charges._settles and not late:
                late.append(True)
                charges.add("arena", -3)
                charges.add("late", 5)
            return super().__hash__()

        __eq__ = str.__eq__

    late: list[bool] = []
    charges.add(Label("arena"), 10)
    assert late == [True]
    assert (charges.by_label(), charges.total_bytes) == ({"arena": 7, "late": 5}, 12)
