"""Which ids a draft model may draft, where its vocabulary has not the size of the target's or the tokenizer knows fewer ids than there are rows.

A model may have more rows of embeddings than its tokenizer has tokens, because sizes are padded for speed: Qwen2.5 has 151,936 or 152,064 rows for
one tokenizer of 151,665 tokens. The draft model's logits are brought to the target's size, and ids that may not be drafted get a logit of `NEVER`.
So they have probability zero, and what is left is a proper distribution over the target's vocabulary.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from filecmp import cmp
from functools import lru_cache
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import pad

from spec.arguments import shown
from spec.tokenizer_files import OLD, Tokenizer, TokenizerFile, read_tokenizer, tokenizer_file
from spec.tree import on_device

if TYPE_CHECKING:
    from spec.model import CausalLM

# The softmax of it is zero at any temperature that is in use. It is not -inf: a logits processor may leave nothing but such ids (a constraint to a
# token that the draft model has no row for). They are drafted then, which is legal, and a row of only -inf could not be drawn from. Half of float32's
# exponents are left below it, so that a temperature of 1e-9 and a repetition penalty of 1e10 together do not make it one.
NEVER = -1e18

# What a difference of sizes must be like to be taken for padding where tokenizers cannot be compared. Sizes are padded to a multiple of 8, 64, 128 or
# more. Within families they differ by up to 384 (Pythia: 50,304 to 50,688; Qwen2.5: 128; Gemma 3: 64). The next larger difference is one of other
# tokenizers: 768 of Mistral 7B v0.1 and v0.3.
PADDING, MULTIPLE = 512, 8
REPLACED = 16  # words of one tokenizer whose ids are added tokens of the other

FED_INSTEAD = 0  # what the draft model reads in place of an id that it has no row for
ADVICE = "a draft model must share the target's tokenizer (prompt_lookup and lookahead need none)"
HARMLESS = "The output has the target's distribution in any case, but few drafts are accepted if the tokenizers differ"


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
class Compared:
    """What the files of two tokenizers say of the ids that both models have rows for."""

    end: int  # as in `SharedIds`
    holes: tuple[int, ...]
    known: bool  # whether both were read
    unread: tuple[str, ...]  # files that are there and cannot be read


def shared_ids(target: "CausalLM", drafter: "CausalLM") -> SharedIds:
    """Compares vocabularies and, where the files of a tokenizer lie beside a model or in the hub's cache, tokenizers; nothing is downloaded.

    Ids that a tokenizer does not know, and added tokens of different names, are not drafted. Raises ValueError where the tokenizers differ otherwise,
    or where they cannot be compared and the sizes differ by more than padding does. If they differ by less, or a file is there that cannot be read, a
    UserWarning says what is assumed. What files say is remembered until they change.
    """
    files = [vocabulary_of(model)[0] for model in (target, drafter)]
    found = _compared(*files, min(target.vocab_size, drafter.vocab_size))
    unread = f"{' and '.join(found.unread)} cannot be read (damaged, or of another form), so tokens cannot be compared" if found.unread else None
    if not found.known:
        _check_sizes(target.vocab_size, drafter.vocab_size, unread or "no tokenizer.json is found beside both models to compare their tokens")
    if unread and target.vocab_size == drafter.vocab_size:
        warnings.warn(f"{unread}. The vocabularies are of one size and taken for the same. {HARMLESS}", stacklevel=2)
    return SharedIds(target.vocab_size, drafter.vocab_size, found.end, on_device(found.holes, drafter.device) if found.holes else None)


def vocabulary_of(model: "CausalLM") -> tuple[TokenizerFile | None, int]:
    """What a comparison depends on: the tokenizer's file as it is now, and the number of rows."""
    return tokenizer_file(name_of(model)), model.vocab_size


def name_of(model: "CausalLM") -> str:
    """The folder or hub id that a model was loaded from; "" where it was made otherwise."""
    whole = getattr(vars(model).get("model"), "config", None)  # a model of text and images keeps its name here
    return next((name for config in (whole, model.config) if (name := str(getattr(config, "_name_or_path", "") or ""))), "")


@lru_cache(maxsize=64)
def _compared(target: TokenizerFile | None, drafter: TokenizerFile | None, count: int) -> Compared:
    """Looks at the ids below `count`. Equal files are read once. Raises ValueError as `known_alike` does."""
    files = [file for file in (target, drafter) if file is not None]
    equal = len(files) == 2 and _equal(*files)
    read = [read_tokenizer(files[0])] * 2 if equal else [read_tokenizer(file) for file in files]
    found = [tokenizer for tokenizer in read if tokenizer is not None]
    ids = set(range(count))
    if found:
        ids &= found[0].ids if equal or len(found) == 1 else known_alike(*found)
        _check_share(len(ids), found)
    unread = dict.fromkeys(file.path for file, tokenizer in zip(files, read, strict=True) if tokenizer is None)
    if equal and not files[0].path.endswith(".json"):
        unread = {}  # of a form that is not read here, but the same
    end = max(ids, default=-1) + 1
    return Compared(end, tuple(sorted(set(range(end)) - ids)), len(found) == 2, tuple(unread))


def _equal(one: TokenizerFile, other: TokenizerFile) -> bool:
    """Whether two files hold the same. Bytes are not enough where added tokens lie in a file of their own."""
    try:
        return one == other or (not one.path.endswith(OLD) and cmp(one.path, other.path, shallow=False))
    except OSError:
        return False


def known_alike(target: Tokenizer, drafter: Tokenizer) -> set[int]:
    """The ids with the same token in both. Raises ValueError where words differ, where more words than padding are known to one of them alone, or
    where less than half of the smaller one's ids have the same token.

    A token that is added in each tokenizer that knows it may differ: within families chat and reserved tokens get other names (Llama 3 and 3.1,
    Qwen2.5 and its distilled models, Gemma's unused tokens, which are words and added in both) or come in addition, and texts are split alike all the
    same. Up to `REPLACED` added tokens may stand in place of words of the other, as padding does that was given an unused byte.
    """
    known, own = target.ids, drafter.ids
    differing = [number for number in sorted(known | own) if target.token(number) != drafter.token(number)]
    plain = (known - target.added.keys()) | (own - drafter.added.keys())  # a word for one of them
    words = [number for number in differing if number in plain]
    alone = [number for number in words if number not in known or number not in own]
    replaced = [number for number in words if number in known and number in own]
    renamed = [number for number in replaced if number not in target.added and number not in drafter.added]
    if renamed or len(replaced) > REPLACED or len(alone) > PADDING:
        number = (renamed or (replaced if len(replaced) > REPLACED else alone))[0]
        told = ["unknown" if (token := tokenizer.token(number)) is None else shown(token) for tokenizer in (target, drafter)]
        raise ValueError(f"the tokenizers differ: id {number} is {told[0]} in the target's and {told[1]} in the draft model's; {ADVICE}")
    shared = (known & own).difference(differing)
    _check_share(len(shared), (target, drafter))
    return shared


def _check_share(num_shared: int, tokenizers: Sequence[Tokenizer]) -> None:
    """Raises ValueError where few ids are left to be drafted."""
    least = min(len(tokenizer.ids) for tokenizer in tokenizers)
    if 2 * num_shared < least:
        raise ValueError(f"only {num_shared} ids have the same token for target and draft model, and the smaller tokenizer has {least} ids; {ADVICE}")


def _check_sizes(target: int, drafter: int, unknown: str) -> None:
    """`unknown` says why tokens cannot be compared."""
    if target == drafter:
        return
    sizes = f"vocabulary sizes differ: target {target}, drafter {drafter}"
    if abs(target - drafter) > PADDING or max(target, drafter) % MULTIPLE:
        raise ValueError(
            f"{sizes}; padding to a multiple of {MULTIPLE} or more, by at most {PADDING}, does not explain that, and {unknown}; {ADVICE}"
        )
    warnings.warn(
        f"{sizes}; {unknown}, so this is taken for different padding of one vocabulary. No id from {min(target, drafter)} on is drafted. {HARMLESS}",
        stacklevel=2,
    )
