"""What can go wrong outside a request's own fault.

A refused request is not an exception but a `Denial`; these mean that the setup, the input or the
world failed:

    AkGuardError
    ├── ConfigurationError       the setup cannot work; the text says what to change
    ├── InputError(ValueError)   a value given to the manager is wrong; `.field` names it
    │   └── LocksOut             lists of addresses would keep out recent callers
    ├── NotFound(LookupError)    no key or group has this name
    ├── Conflict                 somebody else changed it meanwhile
    ├── Repeated                 this was asked for before, and made then
    ├── Unconfirmed              it was changed, but not every running worker has said that it follows
    ├── BackendError             the store of keys cannot be reached or answers nonsense
    └── BudgetError              the store of quotas and windows cannot be reached
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class AkGuardError(Exception):
    """Base of everything `ak_guard` raises on purpose."""


class ConfigurationError(AkGuardError):
    """The setup cannot work. The text names the setting and what would be right."""


class InputError(AkGuardError, ValueError):
    """A value given by a person is wrong.

    `field` is the name of the argument, `problem` what is wrong with it. The text joins both.
    Neither holds the text of a key that was recognised as one.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[Callable[..., InputError], tuple[Any, ...]]:
        return type(self), (self.field, self.problem)


class LocksOut(InputError):
    """The lists of addresses would keep out recent callers, the `addresses`. Nothing was changed; it can be forced."""

    def __init__(self, field: str, addresses: Sequence[str]) -> None:
        more = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
        super().__init__(field, f"would lock out {addresses[0]}{more}, admitted within the last days")
        self.addresses: tuple[str, ...] = tuple(addresses)

    def __reduce__(self) -> tuple[Callable[..., LocksOut], tuple[str, tuple[str, ...]]]:
        return type(self), (self.field, self.addresses)


class NotFound(AkGuardError, LookupError):
    """No key or group is known by this id or name."""


class Conflict(AkGuardError):
    """What was to be changed is not what it was when it was looked at: somebody else changed it. Nothing was done."""


class Repeated(AkGuardError):
    """A request to create a key came again; nothing was made. `key_id` is the key that the first one made.

    `same` says whether it asked for the same key.
    """

    def __init__(self, key_id: str, *, same: bool) -> None:
        super().__init__("this request was made before" if same else "this request was made before, for another key")
        self.key_id = key_id
        self.same = same

    def __reduce__(self) -> tuple[Callable[..., Repeated], tuple[str, bool]]:
        return _repeated, (self.key_id, self.same)


def _repeated(key_id: str, same: bool) -> Repeated:
    return Repeated(key_id, same=same)


class Unconfirmed(AkGuardError):
    """A change was made, but not every running worker has said in time that it follows it.

    `confirmation` names who has not, and until when each may still act on what it knew before; it is made and typed in
    `backends.workers`. None where the store could not be asked about workers any more.
    """

    def __init__(self, confirmation: Any) -> None:
        missing = "anybody: the store cannot be asked" if confirmation is None else confirmation.missing
        super().__init__(f"the change is stored, but not confirmed by {missing}")
        self.confirmation: Any = confirmation

    def __reduce__(self) -> tuple[type[Unconfirmed], tuple[Any]]:
        return type(self), (self.confirmation,)


class BackendError(AkGuardError):
    """The store of keys failed. Requests are answered 503 `key_service_unavailable`."""


class BudgetError(AkGuardError):
    """The store of quotas and windows failed. Requests are answered 503 `limits_unavailable`."""
