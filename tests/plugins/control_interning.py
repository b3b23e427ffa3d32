"""Interns texts, which go with the last reference to them."""

from __future__ import annotations

import sys

TIE = ()

texts = [sys.intern(f"{__name__} weighs {number} kg") for number in range(100)]


def intact() -> object:
    return sys.intern(f"{__name__} weighs 7 kg") is texts[7]
