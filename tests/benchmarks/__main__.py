"""`python -m tests.benchmarks [--quick] [--only NAME] [--json FILE]`: measure, print a table a section, judge."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.benchmarks import sections
from tests.benchmarks.fleet import revocation, steady
from tests.benchmarks.harness import Plan
from tests.benchmarks.list_page import list_page
from tests.benchmarks.memory import bytes_per_key
from tests.benchmarks.million import million
from tests.benchmarks.rare import rare
from tests.benchmarks.report import Table, summary
from tests.benchmarks.service_cold import cold
from tests.benchmarks.service_flood import flood
from tests.benchmarks.service_outage import outage
from tests.benchmarks.stores import stores
from tests.benchmarks.wire import over_uvicorn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PACKAGES: Final = ("ak_guard", "starlette", "fastapi", "uvicorn", "limits", "slowapi", "asgi-ratelimit", "keyshield")


def plans(*, quick: bool) -> dict[str, Callable[[], Awaitable[Table]]]:
    """Every section by name, ready to run."""
    plan = Plan(9, 0.002) if quick else Plan(150, 0.003)
    most = 50_000 if quick else 1_000_000

    async def wire(protocol: str) -> Table:
        return await asyncio.to_thread(over_uvicorn, 2 if quick else 40, 300 if quick else 500, protocol)

    return {
        "peers-1": lambda: sections.against_peers(plan, live=1),
        "peers-1000": lambda: sections.against_peers(plan, live=1_000),
        "refusals": lambda: sections.refusals(plan),
        "refusals-peers": lambda: sections.refusals_of_peers(plan),
        "networks": lambda: sections.many_networks(plan),
        "anchors": lambda: sections.anchors(plan),
        "options": lambda: sections.options(plan),
        "keys": lambda: sections.live_keys(plan, most=most),
        "memory": lambda: bytes_per_key(1_000 if quick else 20_000),
        "sqlite": lambda: sections.sqlite(plan),
        "stores": lambda: stores(plan),
        "million": lambda: million(20_000, 3, 1_000) if quick else million(1_000_000, 12, 10_000),
        "list": lambda: list_page(5_000, 3) if quick else list_page(100_000, 15),
        "rare": lambda: rare(1, ["sqlite"]) if quick else rare(8),
        "steady": lambda: steady(2 if quick else 10),
        "revocation": lambda: revocation(3 if quick else 40),
        "service-cold": lambda: cold(40, 300) if quick else cold(400, 5_000),
        "service-outage": lambda: outage(1, 50, 2.0) if quick else outage(10, 200, 4.0),
        "service-flood": lambda: flood(1, 1.0) if quick else flood(5, 3.0),
        "wire-h11": lambda: wire("h11"),
        "wire-httptools": lambda: wire("httptools"),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds and small sizes: a look, not a figure")
    parser.add_argument("--only", metavar="NAME", action="append", help="a section, or the beginning of its name")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything there as JSON, too")
    options = parser.parse_args()
    chosen = {
        name: run
        for name, run in plans(quick=options.quick).items()
        if not options.only or name.startswith(tuple(options.only))
    }
    if not chosen:
        parser.error(f"--only: there are {', '.join(plans(quick=True))}")
    setting: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "quick": options.quick,
        **_versions(),
    }
    print("; ".join(f"{name} {value}" for name, value in setting.items()))  # noqa: T201  # a command's output
    tables: list[Table] = []
    for run in chosen.values():
        begin = time.perf_counter()
        tables.append(asyncio.run(_table(run)))
        print(f"\n{tables[-1].as_text()}\n  ({time.perf_counter() - begin:.0f} s)", flush=True)  # noqa: T201  # see above
    print(f"\n{summary(tables)}")  # noqa: T201  # see above
    if options.json:
        options.json.write_text(json.dumps({"setting": setting, "sections": [t.as_json() for t in tables]}, indent=1))


async def _table(run: Callable[[], Awaitable[Table]]) -> Table:
    return await run()


if __name__ == "__main__":
    main()
