"""Tools for testing: `check_probe` for anyone's probe, and synthetic layers whose answer is known (`synthetic.py`)."""

from __future__ import annotations

from probekit.testing.probe_checks import (
    AGREE,
    CHECKS,
    CLOSE,
    N_HELD,
    N_NEURONS,
    N_TOKENS,
    Bench,
    ProbeCheckError,
    check_probe,
)

__all__ = [
    "AGREE",
    "CHECKS",
    "CLOSE",
    "N_HELD",
    "N_NEURONS",
    "N_TOKENS",
    "Bench",
    "ProbeCheckError",
    "check_probe",
]
