"""Which ids a draft model may draft, where its vocabulary has not the size of the target's or the tokenizer knows fewer ids than there are rows.

A model may have more rows of embeddings than its tokenizer has tokens, because sizes are padded for speed: Qwen2.5 has 151,936 or 152,064 rows for
one tokenizer of 151,665 tokens. The draft model's logits are brought to the target's size, and ids that may not be drafted get a logit of `NEVER`.
So they have probability zero, and what is left is a proper distribution over the target's vocabulary.
"""

import warnings
from dataclasses import dataclass
from filecmp import cmp
from os import R_OK, access
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.functional import pad
from transformers.utils.hub import cached_file

from spec.checkpoint import json_object
from spec.loading import HUB_ID
from spec.tree import on_device

if TYPE_CHECKING:
    from spec.model import CausalLM

# The softmax of it is zero at any temperature that is in use. It is not -inf: a logits processor may leave nothing but such ids (a constraint to a
# token that the draft model has no row for). They are drafted then, which is legal, and a row of only -inf could not be drawn from.
NEVER = -1e30

# What a difference of sizes must be like to be taken for padding where tokenizers cannot be compared. Sizes are padded to a multiple of 8, 64, 128 or
# more. Within families they differ by up to 384 (Pythia: 50,304 to 50,688; Qwen2.5: 128; Gemma 3: 64). The next larger difference is one of other
# tokenizers: 768 of Mistral 7B v0.1 and v0.3.
PADDING, MULTIPLE = 512, 8

FED_INSTEAD = 0  # what the draft model reads in place of an id that it has no row for
ADVICE = "a draft model must share the target's tokenizer (prompt_lookup and lookahead need none)"


@dataclass(frozen=True)
class SharedIds:
    """The ids below `end` that are not among `holes` may be drafted."""

    width: int  # V, the target's vocabulary
    rows: int  # ids that the draft model has rows for
    end: int  # at most `width` and `rows`
    holes: Tensor | None = None  # [number of holes]

    def logits(self, own: Tensor) -> Tensor:
        """The draft model's logits [B, N, rows] as logits over the target's vocabulary, [B, N, V]."""
        if self.width == self.rows == self.end and self.holes is None:
            return own
        wide = pad((own.float() if own.dtype.itemsize == 2 else own)[..., : self.end], (0, self.width - self.end), value=NEVER)
        return wide if self.holes is None else wide.index_fill(2, self.holes, NEVER)

    def fed(self, tokens: Tensor) -> Tensor:
        """Ids as the draft model can read them. Reading another one changes what is proposed, and never the output's distribution."""
        return tokens if self.rows >= self.width else tokens.masked_fill(tokens >= self.rows, FED_INSTEAD)

    def fed_rows(self, rows: list[list[int]]) -> list[list[int]]:
        """As `fed`, for rows of any lengths."""
        if self.rows >= self.width:
            return rows
        return [[token if token < self.rows else FED_INSTEAD for token in row] for row in rows]


@dataclass(frozen=True)
class Tokenizer:
    """The tokens of a tokenizer.json by id."""

    words: dict[int, str]  # those that texts are split into
    added: dict[int, str]  # special ones, and those that were added later

    def token(self, number: int) -> str | None:
        return self.added.get(number, self.words.get(number))

    @property
    def ids(self) -> set[int]:
        return self.words.keys() | self.added.keys()


def shared_ids(target: "CausalLM", drafter: "CausalLM") -> SharedIds:
    """Compares vocabularies and, where a tokenizer.json lies beside a model or in the hub's cache, tokenizers; nothing is downloaded.

    Ids that a tokenizer does not know, and added tokens of different names, are not drafted. Raises ValueError where the tokenizers differ otherwise,
    or where they cannot be compared and the sizes differ by more than padding does. If they differ by less, a UserWarning says what is assumed.
    """
    found = _tokenizers(name_of(target), name_of(drafter))
    ids = set(range(min(target.vocab_size, drafter.vocab_size)))
    if len(found) == 2:
        ids &= known_alike(*found)
    else:
        _check_sizes(target.vocab_size, drafter.vocab_size)
        ids = ids.intersection(*(tokenizer.ids for tokenizer in found))
    end = max(ids, default=-1) + 1
    holes = sorted(set(range(end)) - ids)
    return SharedIds(target.vocab_size, drafter.vocab_size, end, on_device(holes, drafter.device) if holes else None)


def name_of(model: "CausalLM") -> str:
    """The folder or hub id that a model was loaded from; "" where it was made otherwise."""
    whole = getattr(vars(model).get("model"), "config", None)  # a model of text and images keeps its name here
    return next((name for config in (whole, model.config) if (name := str(getattr(config, "_name_or_path", "") or ""))), "")


def _tokenizers(target: str, drafter: str) -> list[Tokenizer]:
    """Those that can be found. Equal files are read once."""
    files = [file for name in (target, drafter) if (file := _tokenizer_file(name)) is not None]
    if len(files) == 2 and cmp(*files, shallow=False):
        return [tokenizer for tokenizer in [_tokenizer(files[0])] * 2 if tokenizer is not None]
    return [tokenizer for tokenizer in map(_tokenizer, files) if tokenizer is not None]


def _tokenizer_file(name: str) -> Path | None:
    if name and Path(name).is_dir():
        file = Path(name, "tokenizer.json")
        return file if file.is_file() and access(file, R_OK) else None
    if not HUB_ID.fullmatch(name):
        return None
    options: dict[str, Any] = {"local_files_only": True, "_raise_exceptions_for_missing_entries": False}
    try:
        found = cached_file(name, "tokenizer.json", **options, _raise_exceptions_for_connection_errors=False)
    except (OSError, ValueError):
        return None
    return None if found is None else Path(found)


def _tokenizer(file: Path) -> Tokenizer | None:
    """None for a file that is damaged or of another form: whoever loads the tokenizer is told so."""
    try:
        held = json_object(file)
        vocabulary = held["model"]["vocab"]  # {token: id}, or [[token, score], ...] in the order of ids
        pairs = ((token, number) for number, (token, _) in enumerate(vocabulary)) if isinstance(vocabulary, list) else vocabulary.items()
        added = {int(entry["id"]): entry["content"] for entry in held.get("added_tokens") or ()}
        words = {number: token for token, number in pairs}
        return Tokenizer(words, added) if words else None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def known_alike(target: Tokenizer, drafter: Tokenizer) -> set[int]:
    """The ids with the same token in both. Raises ValueError where words differ, or where more words than padding are known to one of them alone.

    Added tokens may differ in their names, as chat and reserved tokens do within families: texts are split alike all the same.
    """
    added = target.added.keys() | drafter.added.keys()
    differing = [number for number in sorted(target.ids | drafter.ids) if target.token(number) != drafter.token(number)]
    words = [number for number in differing if number not in added]
    renamed = [number for number in words if number in target.words and number in drafter.words]
    if renamed or len(words) > PADDING:
        number = (renamed or words)[0]
        told = [repr(token) if (token := tokenizer.token(number)) is not None else "unknown" for tokenizer in (target, drafter)]
        raise ValueError(f"the tokenizers differ: id {number} is {told[0]} in the target's and {told[1]} in the draft model's; {ADVICE}")
    return (target.ids & drafter.ids).difference(differing)


def _check_sizes(target: int, drafter: int) -> None:
    if target == drafter:
        return
    sizes = f"vocabulary sizes differ: target {target}, drafter {drafter}"
    unknown = "no tokenizer.json is found beside both models to compare their tokens"
    if abs(target - drafter) > PADDING or max(target, drafter) % MULTIPLE:
        raise ValueError(
            f"{sizes}; padding to a multiple of {MULTIPLE} or more, by at most {PADDING}, does not explain that, and {unknown}; {ADVICE}"
        )
    warnings.warn(
        f"{sizes}; {unknown}, so this is taken for different padding of one vocabulary. No id from {min(target, drafter)} on is drafted. "
        "The output has the target's distribution in any case, but few drafts are accepted if the tokenizers differ",
        stacklevel=2,
    )
