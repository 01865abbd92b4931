"""The cookies of the console. None of them holds a secret but the one of the session, which scripts cannot read."""

from __future__ import annotations

from typing import Final

SESSION_COOKIE: Final = "ak_guard_session"
DOOR_COOKIE: Final = "ak_guard_door"
LANGUAGE_COOKIE: Final = "ak_lang"
THEME_COOKIE: Final = "ak_theme"
SHORTCUTS_COOKIE: Final = "ak_keys"
#: Set by the script, so that times are right also where it does not run.
ZONE_COOKIE: Final = "ak_tz"
YEAR_SECONDS: Final = 365 * 86_400
