"""The scripts that run inside Redis, and the names Redis knows them by."""

from __future__ import annotations

import hashlib
import pkgutil
from typing import Final


class Script:
    """A script beside this file; `name` is what `EVALSHA` calls it by."""

    def __init__(self, file: str) -> None:
        code = pkgutil.get_data(__package__, file)
        if code is None:
            raise ImportError(f"{file} is missing beside {__name__}")
        self.text: str = code.decode()
        self.name: str = hashlib.sha1(code, usedforsecurity=False).hexdigest()


BUDGETS: Final = Script("redis_script.lua")
SLOTS: Final = Script("redis_slots.lua")

#: The text of each by its name.
TEXTS: Final = {script.name: script.text for script in (BUDGETS, SLOTS)}
