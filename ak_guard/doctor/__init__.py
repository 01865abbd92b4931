"""What is amiss with a setup: settings, database, clocks, proxies, workers, and keys that ignore good advice."""

from __future__ import annotations

from ak_guard.doctor.examination import examine
from ak_guard.doctor.finding import Finding, Severity

__all__ = ["Finding", "Severity", "examine"]
