"""Which hypervisor this process runs under, if any, and how that is known."""

from __future__ import annotations

from .detector import detect, detect_here
from .evidence import Confidence, Container, Detection, Evidence, Kind, Silence, Verdict, Weight

__all__ = [
    "Confidence",
    "Container",
    "Detection",
    "Evidence",
    "Kind",
    "Silence",
    "Verdict",
    "Weight",
    "detect",
    "detect_here",
]
