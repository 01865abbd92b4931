"""The settings of the middleware: what there is, where they come from, and what is wrong with them.

They come from arguments, from `AK_GUARD_<SETTING>` in the environment, and from one file: the one that
`AK_GUARD_CONFIG` names, or else `./ak_guard.toml`, or else `[tool.ak_guard]` of `./pyproject.toml`. An argument wins
over the environment, and the environment over the file; a setting is taken whole from one of them.
"""

from __future__ import annotations

from ak_guard.settings.given import completed_from_outside, configured
from ak_guard.settings.options import Options, check, exact_paths, group_list, names

__all__ = ["Options", "check", "completed_from_outside", "configured", "exact_paths", "group_list", "names"]
