"""The tokens of a model by id, read from the files of its tokenizer, in its folder or in the hub's cache. Nothing is downloaded or run."""

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from spec.checkpoint import json_object
from spec.loading import HUB_ID, TOKENIZER_DATA

TOKENIZER, OLD, OLD_ADDED = "tokenizer.json", "vocab.json", "added_tokens.json"  # the last two: the layout of GPT-2
LAYOUTS = (TOKENIZER, OLD, *TOKENIZER_DATA)  # the first that a folder has counts; only the first two are read
NOT_JSON = (ValueError, TypeError, KeyError, IndexError, AttributeError, OSError)


@dataclass(frozen=True)
class Tokenizer:
    """The tokens of a tokenizer by id."""

    words: dict[int, str]  # those that texts are split into
    added: dict[int, str]  # special ones, and those that were added later

    def token(self, number: int) -> str | None:
        return self.added.get(number, self.words.get(number))

    @property
    def ids(self) -> set[int]:
        return self.words.keys() | self.added.keys()


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer's file as it is now: equal ones hold the same, so what was found out about one may be kept."""

    path: str
    version: tuple[int, ...] = ()  # times, sizes and numbers of the file and of what belongs to it; empty where they cannot be seen


def tokenizer_file(name: str) -> TokenizerFile | None:
    """The file with the tokens of a model that was loaded from a folder, or from the hub by its id; None where there is none."""
    try:
        folder = Path(name) if name and Path(name).is_dir() else _snapshot(name)
        file = None if folder is None else _first_file(folder)
        if file is None:
            return None
        parts = [part.stat() for part in (file, file.with_name(OLD_ADDED)) if part.is_file()]
        return TokenizerFile(str(file.absolute()), tuple(number for part in parts for number in (part.st_mtime_ns, part.st_size, part.st_ino)))
    except PermissionError as error:
        return TokenizerFile(str(error.filename or name))
    except (OSError, ValueError):  # what can be no name of a file: too long, or with zeros in it
        return None


def _first_file(folder: Path) -> Path | None:
    names = sorted(os.listdir(folder))  # a glob would hide that it may not be read
    found = (folder / name for layout in LAYOUTS for name in names if fnmatch(name, layout))
    return next((file for file in found if file.is_file()), None)


def _snapshot(name: str) -> Path | None:
    """Where the hub's cache has the files of a model."""
    if not HUB_ID.fullmatch(name):
        return None
    options: dict[str, Any] = {"local_files_only": True, "_raise_exceptions_for_missing_entries": False}
    for file in (TOKENIZER, "config.json"):
        found = cached_file(name, file, **options, _raise_exceptions_for_connection_errors=False)
        if found is not None:
            return Path(found).parent
    return None


def read_tokenizer(file: TokenizerFile) -> Tokenizer | None:
    """The tokens; None for a file that cannot be read, is damaged or has another form: whoever loads the tokenizer is told so."""
    path = Path(file.path)
    if path.name not in (TOKENIZER, OLD):
        return None
    try:
        held = json_object(path)
        if path.name == TOKENIZER:
            vocabulary, added = held["model"]["vocab"], {entry["id"]: entry["content"] for entry in held.get("added_tokens") or ()}
        else:
            beside = path.with_name(OLD_ADDED)
            vocabulary, added = held, {number: token for token, number in (json_object(beside) if beside.is_file() else {}).items()}
        # {token: id}, or [[token, score], ...] in the order of ids
        pairs = ((token, number) for number, (token, _) in enumerate(vocabulary)) if isinstance(vocabulary, list) else vocabulary.items()
        words = {number: token for token, number in pairs}
    except NOT_JSON:
        return None
    whole = all(type(number) is int and number >= 0 and type(token) is str for part in (words, added) for number, token in part.items())
    return Tokenizer(words, added) if words and whole else None
