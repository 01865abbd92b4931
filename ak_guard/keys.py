"""Mint, parse and digest a key.

A minted key is `{prefix}_{32 base62 random}{6 base62 CRC-32 of what stands before}`, about 190 bits. The checksum is no
security: it throws mistyped keys out without a look-up and lets secret scanners tell a key from noise. The idea is
GitHub's token format (https://github.blog/2021-04-05-behind-githubs-new-authentication-token-formats/).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ak_guard.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

#: For secret scanners: matches every key minted with the default prefix.
SCANNER_PATTERN: Final = r"\bak_[0-9A-Za-z]{38}\b"

MAX_KEY_BYTES: Final = 512

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: What every minted key looks like, as a pattern.
SHAPE: Final = "[a-z0-9]{1,32}_[0-9A-Za-z]{38}"
_MINTED: Final = re.compile(SHAPE.encode())
# Each place where one may begin, also within another: what stands right before a key could be part of its prefix.
_ANYWHERE: Final = re.compile(f"(?=({SHAPE}))".encode())
_PRINTABLE: Final = re.compile(rb"[\x21-\x7e]+")
_PREFIX: Final = re.compile(r"[a-z0-9]{1,32}")
# The shortest text that anybody may choose as a key.
_LEAST_HINTED: Final = 16
_RANDOM_LENGTH: Final = 32
# Two digits at a time: whoever tries keys at random makes the guard compute a checksum each time.
_PAIRS: Final = [high + low for high in _ALPHABET for low in _ALPHABET]
_CHECKSUM_LENGTH: Final = 6


def mint(prefix: str = "ak") -> str:
    """Return the text of a new key. `prefix` is 1 to 32 of `[a-z0-9]`; raises `InputError` naming it otherwise."""
    checked_prefix(prefix)
    body = f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return body + _checksum(body.encode())


def checked_prefix(prefix: str) -> str:
    """Return `prefix` when keys can be minted with it."""
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise InputError("prefix", f"{prefix!r} must be 1 to 32 lower-case letters and digits, such as ak")
    return prefix


def is_minted_shape(text: bytes) -> bool:
    """Whether `text` looks like a minted key of any prefix; its checksum may still be wrong."""
    return _MINTED.fullmatch(text) is not None


def holds_minted(text: str) -> bool:
    """Whether what looks like a minted key stands somewhere in this."""
    return _MINTED.search(text.encode(errors="replace")) is not None


def holds_key(text: str) -> bool:
    """Whether a minted key stands somewhere in this, with the right checksum: no other text looks like that."""
    return any(is_well_formed(found[1]) for found in _ANYWHERE.finditer(text.encode(errors="replace")))


def is_well_formed(text: bytes) -> bool:
    """Whether `text` could be a key at all: visible ASCII and, where it looks minted, the right checksum."""
    if is_minted_shape(text):
        return text[-_CHECKSUM_LENGTH:] == _checksum(text[:-_CHECKSUM_LENGTH]).encode()
    return _PRINTABLE.fullmatch(text) is not None


def digest(text: bytes) -> bytes:
    """The name by which cache, wire and backends know a key: 32 bytes, SHA-256 of its text."""
    return _sha256(text).digest()  # type: ignore[no-any-return]


def hint(text: str) -> str:
    """What people may see of a key: its prefix and last four characters, such as `ak_…7Qx4`."""
    return _hint(text, minted=is_minted_shape(text.encode()))


def hint_of_unknown(text: bytes) -> str:
    """What may be told of a text that is nobody's key, and may be anything: nothing where it is short or no key."""
    minted = is_minted_shape(text)
    if not minted and (len(text) < _LEAST_HINTED or _PRINTABLE.fullmatch(text) is None):
        return ""
    return _hint(text.decode("ascii"), minted=minted)


def _hint(text: str, *, minted: bool) -> str:
    prefix = text.partition("_")[0] + "_" if minted else ""
    return f"{prefix}…{text[-4:]}"


def _plain_sha256() -> Callable[[bytes], Any]:
    """CPython's own, as its `random` takes it, else that of `hashlib`.

    OpenSSL's does much beside hashing, and needs twice the time for a text as short as a key.
    """
    for module in ("_sha2", "_sha256"):  # from 3.12 on, and before
        with suppress(ImportError, AttributeError):
            return import_module(module).sha256  # type: ignore[no-any-return]
    return hashlib.sha256


_sha256: Final = _plain_sha256()


def _checksum(body: bytes) -> str:
    number, last = divmod(zlib.crc32(body), len(_PAIRS))
    first, middle = divmod(number, len(_PAIRS))
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[last]
