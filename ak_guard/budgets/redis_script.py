"""The script that runs inside Redis, and the name Redis knows it by."""

from __future__ import annotations

import hashlib
import pkgutil
from typing import Final

_CODE: Final = pkgutil.get_data(__package__, "redis_script.lua")
if _CODE is None:
    raise ImportError("redis_script.lua is missing beside this file")

SCRIPT: Final[str] = _CODE.decode()
SHA: Final[str] = hashlib.sha1(_CODE, usedforsecurity=False).hexdigest()
