"""What settings and environment say, without opening anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ak_guard.address import IPSet
from ak_guard.doctor.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ak_guard.settings import Options
    from ak_guard.settings.written import Outside

_EVERYBODY: Final = frozenset({"0.0.0.0/0", "::/0"})
#: Longer than this, in seconds, a disabled key would surprise people by working on.
_LONG: Final = 3_600.0


def strangers(found: Outside) -> Iterator[Finding]:
    """Names that nobody knows."""
    for stranger in found.strangers:
        yield Finding(
            Severity.ERROR,
            "unknown_setting",
            stranger,
            "a guard that finds it refuses to start, because the setting that was meant does not hold",
            "`ak-guard settings` lists the names",
        )


def proxies(options: Options, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whose word is taken for where a caller is."""
    why = (
        "any caller can then write its own address into X-Forwarded-For, and pass lists of addresses and the limit on "
        "unknown keys"
    )
    if "*" in (part.strip() for part in environment.get("FORWARDED_ALLOW_IPS", "").split(",")):
        yield Finding(
            Severity.WARNING,
            "forwarded_from_everybody",
            "FORWARDED_ALLOW_IPS=* lets the server believe X-Forwarded-For from everybody",
            why,
            "export FORWARDED_ALLOW_IPS=10.0.0.5  # the address of the proxy, as the server sees it",
        )
    trusted = _EVERYBODY.intersection(IPSet(options.trusted_proxies, "trusted_proxies").entries)
    if trusted:
        yield Finding(
            Severity.WARNING,
            "proxies_are_everybody",
            f"trusted_proxies holds {', '.join(sorted(trusted))}: everybody",
            why,
            'trusted_proxies = ["10.0.0.0/8"]  # the networks of the proxies',
        )


def rules(options: Options) -> Iterator[Finding]:
    """Settings that are allowed, and weaken the guard."""
    if options.mode == "report":
        yield Finding(
            Severity.WARNING,
            "report_mode",
            'mode is "report"',
            "nothing is refused: whoever has no key gets in too",
            'mode = "enforce"',
        )
    if options.failure_limit is None:
        yield Finding(
            Severity.WARNING,
            "no_failure_limit",
            "failure_limit is off",
            "each unknown key that somebody tries is a look-up in the database",
            'failure_limit = "30/minute"',
        )
    if options.stale_if_error > _LONG:
        yield Finding(
            Severity.ADVICE,
            "long_stale_if_error",
            f"stale_if_error is {options.stale_if_error:g} seconds",
            "for so long a key that was disabled or deleted works on while the database is down",
            "stale_if_error = 60.0",
        )
    if options.backend is not None and str(options.backend).startswith("memory:"):
        yield Finding(
            Severity.WARNING,
            "memory_backend",
            "backend is memory://",
            "each process has its own keys and counters, nobody else can make keys there, and all go with the process",
            'backend = "sqlite:///keys.db"',
        )
