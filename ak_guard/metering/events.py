"""Server-sent events out of bytes that are cut anywhere, without holding on to what is too large to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE_ENDS: Final = b"\r\n"


class Events:
    """Tells the data of each event once it is whole. Of one with more than `most` bytes it is empty."""

    __slots__ = ("_after_cr", "_data", "_has_data", "_in_line", "_line", "_most", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._line = bytearray()
        # How many bytes the line under way has, also where they are not kept.
        self._in_line = 0
        self._data: list[bytes] = []
        self._has_data = False
        self._size = 0
        self._after_cr = False

    def add(self, part: bytes) -> Iterator[bytes]:
        if self._after_cr and part.startswith(b"\n"):
            # The other half of a line end.
            part = part[1:]
            self._after_cr = False
        if part:
            self._after_cr = part.endswith(b"\r")
        for line in part.splitlines(keepends=True):
            text = line.rstrip(_LINE_ENDS)
            self._keep(text)
            if len(text) < len(line):
                if self._in_line:
                    self._end_line()
                elif self._has_data:
                    yield b"\n".join(self._data)
                    self._begin()
                else:
                    self._begin()

    def end(self) -> Iterator[bytes]:
        """Nothing more comes. An event that was not finished counts too."""
        return self.add(b"\n\n")

    def _keep(self, text: bytes) -> None:
        self._in_line += len(text)
        self._size += len(text)
        if self._size <= self._most:
            self._line += text
        else:
            # Enough to see which field it is.
            self._line = (self._line[:5] + text[:5])[:5]
            self._data.clear()

    def _end_line(self) -> None:
        name, _, value = bytes(self._line).partition(b":")
        if name == b"data":
            self._has_data = True
            if self._size <= self._most:
                self._data.append(value.removeprefix(b" "))
        self._line.clear()
        self._in_line = 0

    def _begin(self) -> None:
        self._data.clear()
        self._has_data = False
        self._size = 0
