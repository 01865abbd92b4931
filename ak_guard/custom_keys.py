"""Which texts a person may choose as a key.

A minted key has 190 random bits; a chosen one has what its author gave it, so the easily guessed are turned away.
"""

from __future__ import annotations

import re
from typing import Final

from ak_guard import keys
from ak_guard.errors import InputError

MIN_LENGTH: Final = 20
MIN_LENGTH_WITH_PEPPER: Final = 16
MIN_DISTINCT: Final = 10
# What must be left, in length and variety, once words and runs are taken out: 8 random characters of 64 are 48 bits.
MIN_UNGUESSED: Final = 8

_ALLOWED: Final = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_SEPARATORS: Final = re.compile(r"[_.-]+")
_RUNS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
)
_RUN_LENGTH: Final = 4
_REPEATED: Final = re.compile(r"(.{1,4}?)\1{2,}")
_PLACEHOLDERS: Final = re.findall(
    r"\S+",
    """
    yourapikey yourkey yoursecret yourtoken changeme changethis replaceme replacewith replacethis placeholder
    apikeyhere keyhere insertkey insertapikey insertyour examplekey exampleapikey dummykey samplekey notarealkey
    fakekey sk1234 mysecretkey mysecretpassword supersecret testtesttest
    """,
)
_COMMON: Final = """
    password passwort passw0rd p4ssw0rd letmein welcome iloveyou monkey dragon football baseball master sunshine
    princess shadow superman batman trustno1 whatever freedom starwars login access admin administrator root user guest
    default secret private public token apikey api key keys auth bearer client server service services customer support
    tool billing worker prod production staging stage dev develop development test testing local demo example sample
    dummy fake my our your the this that is not and for from with here company project team internal external gateway
    openai anthropic correct horse battery staple hello world foo bar baz qux summer winter spring autumn monday friday
    january december alpha beta gamma delta one two three four five six seven eight nine ten red green blue black white
    love life money apple orange banana cheese coffee computer internet google facebook amazon microsoft azure cloud
    data base database super mega ultra best good great strong long short very new old first last next unique custom
    chosen random value string people house water music office street city country name date time year month week day
"""
# Longest first, so that "administrator" does not leave "istrator".
_WORDS: Final = sorted(re.findall(r"\S+", _COMMON), key=len, reverse=True)


def check(text: str, *, peppered: bool) -> None:
    """Raise `InputError` naming `key` unless `text` may serve as a key somebody chose.

    It needs 20 characters of `[A-Za-z0-9_.-]` (16 where the backend has a pepper), ten different ones, and enough left
    once dictionary words, keyboard runs and repetitions are taken out. The error never repeats the text.
    """
    least = MIN_LENGTH_WITH_PEPPER if peppered else MIN_LENGTH
    if not isinstance(text, str) or not _ALLOWED.fullmatch(text):
        raise InputError("key", "may only hold letters, digits and _ . -")
    if len(text) < least:
        raise InputError("key", f"has {len(text)} characters and needs at least {least}")
    if len(text) > keys.MAX_KEY_BYTES:
        raise InputError("key", f"has {len(text)} characters and may have at most {keys.MAX_KEY_BYTES}")
    if keys.is_minted_shape(text.encode()):
        raise InputError("key", "has the shape of a generated key; leave it out to have one generated")
    if len(set(text)) < MIN_DISTINCT:
        raise InputError("key", f"has {len(set(text))} different characters and needs at least {MIN_DISTINCT}")
    plain = _SEPARATORS.sub("", text.lower())
    if any(phrase in plain for phrase in _PLACEHOLDERS):
        raise InputError("key", "is a placeholder that everybody knows")
    left = _unguessed(text.lower())
    if len(left) < MIN_UNGUESSED or len(set(left)) < MIN_UNGUESSED - 2:
        raise InputError("key", "is made of words, keyboard runs or repetitions; add random characters")


def _unguessed(text: str) -> str:
    """What is left of `text` once everything a guesser tries first is gone."""
    text = _REPEATED.sub("", text)
    for word in _WORDS:
        text = text.replace(word, "-")
    return _SEPARATORS.sub("", _without_runs(text))


def _without_runs(text: str) -> str:
    kept: list[str] = []
    at = 0
    while at < len(text):
        length = _run_length(text, at)
        if length < _RUN_LENGTH:
            kept.append(text[at])
            length = 1
        at += length
    return "".join(kept)


def _run_length(text: str, at: int) -> int:
    """How many characters from `at` on follow a row of the keyboard, the alphabet or the digits, either way."""
    longest = 1
    for row in _RUNS:
        for line in (row, row[::-1]):
            start = line.find(text[at])
            length = 0
            while start >= 0 and line[start + length : start + length + 1] == text[at + length : at + length + 1] != "":
                length += 1
            longest = max(longest, length)
    return longest
