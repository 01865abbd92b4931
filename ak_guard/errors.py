"""What can go wrong outside a request's own fault.

A refused request is not an exception but a `Denial`; these mean that the setup, the input or the
world failed:

    AkGuardError
    ├── ConfigurationError       the setup cannot work; the text says what to change
    ├── InputError(ValueError)   a value given to the manager is wrong; `.field` names it
    ├── NotFound(LookupError)    no key or group has this name
    ├── BackendError             the store of keys cannot be reached or answers nonsense
    └── BudgetError              the store of quotas and windows cannot be reached
"""

from __future__ import annotations


class AkGuardError(Exception):
    """Base of everything `ak_guard` raises on purpose."""


class ConfigurationError(AkGuardError):
    """The setup cannot work. The text names the setting and what would be right."""


class InputError(AkGuardError, ValueError):
    """A value given by a person is wrong.

    `field` is the name of the argument, `problem` what is wrong with it. The text joins both.
    Neither ever holds a secret.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        return type(self), (self.field, self.problem)


class NotFound(AkGuardError, LookupError):
    """No key or group is known by this id or name."""


class BackendError(AkGuardError):
    """The store of keys failed. Requests are answered 503 `key_service_unavailable`."""


class BudgetError(AkGuardError):
    """The store of quotas and windows failed. Requests are answered 503 `limits_unavailable`."""
