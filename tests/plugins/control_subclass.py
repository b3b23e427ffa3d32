"""Extends classes of the standard library's, which list their subclasses weakly."""

from __future__ import annotations

import argparse
import collections

TIE = ()


class Loads(collections.UserDict[str, int]):
    pass


class Show(argparse.Action):
    pass


def intact() -> object:
    return [Loads in type.__subclasses__(collections.UserDict), Show in type.__subclasses__(argparse.Action)]
