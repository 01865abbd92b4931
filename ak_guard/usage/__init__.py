"""What happened: a record of each request, written behind; sums of them; and what stands out in those."""

from __future__ import annotations

from ak_guard.usage.anomalies import Anomaly
from ak_guard.usage.records import KeyUse, LastUsed, UsageRecord
from ak_guard.usage.summaries import Bucket, Place, UsageSummary

__all__ = ["Anomaly", "Bucket", "KeyUse", "LastUsed", "Place", "UsageRecord", "UsageSummary"]
