"""Which hypervisor this process runs under, if any, and how that is known."""

from __future__ import annotations
