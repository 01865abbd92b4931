"""Find keys in files and logs, by the shape and the checksum that every minted key has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from ak_guard import keys

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK: Final = 1 << 20
# The longest prefix, its underscore and what follows, with a character on both sides.
_OVERLAP: Final = 128
_SHAPE: Final = re.compile(rf"(?<![0-9A-Za-z_]){keys.SHAPE}(?![0-9A-Za-z])".encode())


class Hit(NamedTuple):
    """A key, and where it begins: line and column count from 1, columns in bytes."""

    line: int
    column: int
    text: bytes

    @property
    def hint(self) -> str:
        """What may be shown of it."""
        return keys.hint(self.text.decode("ascii"))


def scan(stream: BinaryIO) -> Iterator[Hit]:
    """The keys in a stream, in order, whatever else it holds and however long it is.

    The checksum throws out what only looks like a key; one text in 57 billion passes by chance. Custom keys have no
    shape of their own and are not found.
    """
    window, line, column = b"", 1, 1
    while True:
        chunk = stream.read(_CHUNK)
        window += chunk
        # What may go on in the next chunk is looked at with it.
        sure = len(window) - _OVERLAP if chunk else len(window)
        at = done = 0
        for found in _SHAPE.finditer(window):
            if found.start() >= sure:
                break
            line, column = _moved(window[at : found.start()], line, column)
            at, done = found.start(), found.end()
            if keys.is_well_formed(found[0]):
                yield Hit(line, column, found[0])
        # One character more is kept: whether a key begins depends on what stands before it.
        end = max(0, at, done - 1, sure - 1)
        line, column = _moved(window[at:end], line, column)
        window = window[end:]
        if not chunk:
            return


def _moved(passed: bytes, line: int, column: int) -> tuple[int, int]:
    """Where one stands after these bytes."""
    newlines = passed.count(b"\n")
    return line + newlines, len(passed) - passed.rfind(b"\n") if newlines else column + len(passed)
