"""A key made ready to be judged: its rules and budgets, put together once and kept in the cache."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ak_guard.budgets.gate import Gate
from ak_guard.budgets.ledger import Budget, Part
from ak_guard.budgets.windows import Quota, Window
from ak_guard.checks import GroupRules, KeyRules, ServiceRules
from ak_guard.records import DEFAULT_GROUP, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ak_guard.address import Address
    from ak_guard.backends.base import Found
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.records import ApiKey


# How many callers and routes that passed every rule are remembered for one key. Each may have a path of its own, and
# there may be a hundred thousand keys.
_REMEMBERED: Final = 16
# Longer paths are not worth remembering.
_SHORT: Final = 256

#: Who asks for what, as far as a rule may look: client, method, path, raw path, root path.
Asked = tuple["Address | None", str, str, "bytes | None", "str | None"]


class Subject:
    """One key as the guard sees it. `door` is the door's own place for what it shows of the key, made on first use."""

    __slots__ = ("budget", "door", "group_rules", "key", "passed", "rules")

    def __init__(self, key: ApiKey, rules: KeyRules, group_rules: GroupRules, budget: Budget) -> None:
        self.key: ApiKey = key
        self.rules: KeyRules = rules
        self.group_rules: GroupRules = group_rules
        self.budget: Budget = budget
        self.door: Any = None
        #: What has passed every rule before, and passes again until `rules.good_until`.
        self.passed: set[Asked] = set()

    def let_in(self, asked: Asked) -> None:
        """Every rule lets this client in on this route."""
        # A key is called from few addresses on few routes; whoever makes up new ones only pays the checks again.
        if len(self.passed) >= _REMEMBERED:
            self.passed.clear()
        if len(asked[2]) <= _SHORT:
            self.passed.add(asked)


class SubjectMaker:
    """How a service turns what a backend found into a `Subject`.

    `groups` of the service stand beside those of the backend and win where both know a name. `windows` and `quotas`
    are the stores that count.
    """

    def __init__(
        self,
        *,
        groups: Mapping[str, Group],
        service: ServiceRules,
        windows: MultiWindowSupport,
        quotas: MultiWindowSupport,
        clock: Callable[[], float],
    ) -> None:
        self._groups = groups
        self._service = service
        self._windows = windows
        self._quotas = quotas
        self._clock = clock
        self._group_rules = lru_cache(maxsize=1_024)(lambda name, group: GroupRules(name, group, service))

    def __call__(self, found: Found) -> Subject:
        key = found.key
        group = group_of(key.group, self._groups, found.group)
        return Subject(
            key,
            KeyRules(key, found.valid_until),
            self._group_rules(key.group, group),
            key_budget(key, group, windows=self._windows, quotas=self._quotas, clock=self._clock),
        )


def key_budget(
    key: ApiKey,
    group: Group | None,
    *,
    windows: MultiWindowSupport,
    quotas: MultiWindowSupport,
    clock: Callable[[], float],
) -> Budget:
    """The budgets of a key: its own windows or its group's, its quota, what its group shares, and its cap."""
    limits = key.limits if key.limits is not None else group.limits if group else ()
    own = [Window.of(limit) for limit in limits]
    quota = [] if key.quota is None else [Quota(key.quota)]
    shared = [Window.of(limit, "shared-") for limit in group.shared_limits] if group else []
    subject = f"key/{key.id}"
    parts = (
        [Part(windows, subject, [*own, *quota])]
        if windows is quotas
        else [
            Part(windows, subject, own),
            Part(quotas, subject, quota),
        ]
    )
    parts.insert(1, Part(windows, f"group/{key.group}", shared))
    gate = None if key.max_concurrency is None else _gate(subject, key.max_concurrency, windows, quotas)
    return Budget(parts, group.multiplier if group else _ONE, clock, gate)


def _gate(subject: str, limit: int, windows: MultiWindowSupport, quotas: MultiWindowSupport) -> Gate:
    """Who runs is counted where windows are; where that cannot be, beside the keys, or else in the process."""
    for storage in (windows, quotas):
        if storage.slots is not None:
            return Gate(storage, storage.slots, subject, limit)
    return Gate(quotas, quotas.slots_of_process, subject, limit)


def group_of(name: str, service_groups: Mapping[str, Group], stored: Group | None) -> Group | None:
    """The group of this name: the service's own, the stored one, or None.

    `default` needs no record: it lets everything in until somebody defines it.
    """
    group = service_groups.get(name) or stored
    return Group(DEFAULT_GROUP) if group is None and name == DEFAULT_GROUP else group


_ONE = Group(DEFAULT_GROUP).multiplier
