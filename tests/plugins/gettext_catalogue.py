"""Leaves a catalogue of a class of its own in gettext."""

from __future__ import annotations

import gettext
import os
import struct
import tempfile

TIE = "gettext"


class Phrases(gettext.GNUTranslations):
    pass


def _read(folder: str) -> gettext.NullTranslations:
    os.makedirs(os.path.join(folder, "xx", "LC_MESSAGES"), exist_ok=True)
    path = os.path.join(folder, "xx", "LC_MESSAGES", "scales.mo")
    if not os.path.exists(path):
        with open(path, "wb") as file:  # one message, "a" for "b", https://docs.python.org/3/library/gettext.html
            file.write(struct.pack("<11I", 0x950412DE, 0, 1, 28, 36, 0, 0, 1, 44, 1, 46) + b"a\0b\0")
    return gettext.translation("scales", folder, ["xx"], class_=Phrases)


with tempfile.TemporaryDirectory() as folder:
    phrases = _read(folder)


def intact() -> object:
    kept = [key for key in vars(gettext)["_translations"] if key[0] is Phrases]
    return [len(kept), phrases.gettext("a")]
