"""Leaves its handler as the last resort of logging."""

from __future__ import annotations

import logging

TIE = "logging last resort"
ALONE = True


class Clerk(logging.StreamHandler):  # type: ignore[type-arg]
    pass


logging.lastResort = Clerk()
