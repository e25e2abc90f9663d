"""An answer as HTML that shows what speculation did: accepted draft tokens green, the target's own plain, rejected draft tokens struck out in red.

Works from `records.jsonl` and `steps.jsonl` alone; without `proposed` in the steps there is nothing to strike out. The elements are `mark` and `del`,
which mean the right thing without a style sheet too.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STYLE = (
    "pre.coloured{white-space:pre-wrap;overflow-wrap:anywhere}"
    ".coloured mark{background:#bfeac8;color:inherit;border-radius:2px;box-shadow:inset 0 0 0 .5px #4c9a5e}"
    ".coloured del{color:#b3261e;background:#fbe6e4}"
)
LEGEND = '<p class="coloured"><mark>accepted draft token</mark> token of the target itself <del>rejected draft token</del></p>'
ELEMENTS = {"accepted": "mark", "rejected": "del", "own": ""}
MAX_STRUCK = 8  # most rejected tokens shown per step: a tree has too many to read
CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}  # not allowed in HTML
BREAKS = {ord("\n"): "\u23ce", ord("\t"): "\u21e5"}  # a struck line break must not break the line


@dataclass(frozen=True)
class Piece:
    """Text of one fate: "accepted" draft tokens, "rejected" ones, or the target's "own"."""

    fate: str
    text: str


def coloured(tokens: Sequence[int], steps: Sequence[Mapping[str, Any]], tokenizer: Any) -> str:
    """A `pre` element with the emitted `tokens`; see `pieces`, which raises ValueError."""
    body = "".join(_element(ELEMENTS[piece.fate], piece.text) for piece in pieces(tokens, steps, tokenizer))
    return f'<pre class="coloured">\n{body}</pre>'


def pieces(tokens: Sequence[int], steps: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[Piece]:
    """The text of the emitted `tokens`, token by token, and of the rejected ones, step by step.

    `steps` are the lines of `steps.jsonl` of this prompt and role, in order; empty: everything is the target's own. Rejected tokens stand before
    the token that replaced them. A step that was cut by EOS or budget rejected nothing. Characters of several tokens take the fate of the last one.
    Raises ValueError if the steps do not add up to the tokens.
    """
    steps = steps or [{"emitted": len(tokens), "accepted": 0}]
    if sum(step["emitted"] for step in steps) != len(tokens):
        raise ValueError(
            f"the steps emit {sum(step['emitted'] for step in steps)} tokens, the record holds {len(tokens)}: they are not of the same run"
        )
    reader, found, at = _Reader(tokenizer), [], 0
    for step in steps:
        new = tokens[at : at + step["emitted"]]
        kept, own = new[: step["accepted"]], new[step["accepted"] :]
        found += [Piece("accepted", reader.add(token)) for token in kept]
        if not step.get("cut"):
            found += _struck(rejected(step.get("proposed") or [], kept), reader)
        found += [Piece("own", reader.add(token)) for token in own]
        at += len(new)
    return [piece for piece in (*found, Piece("own", reader.rest())) if piece.text]


def rejected(proposed: Sequence[int], kept: Sequence[int]) -> list[int]:
    """The proposed tokens without the kept ones, which occur among them in the same order: slots rise along a path."""
    waiting, left = list(kept), []
    for token in proposed:
        if waiting and token == waiting[0]:
            waiting.pop(0)
        else:
            left.append(token)
    return left


def _struck(tokens: Sequence[int], reader: "_Reader") -> list[Piece]:
    shown = Piece("rejected", reader.peek(tokens[:MAX_STRUCK]).translate(BREAKS))
    return [shown, Piece("rejected", f"\u2026+{len(tokens) - MAX_STRUCK}")] if len(tokens) > MAX_STRUCK else [shown]


def _element(name: str, text: str) -> str:
    safe = html.escape(text.translate(CONTROLS), quote=False)
    return f"<{name}>{safe}</{name}>" if name and safe else safe


class _Reader:
    """Text token by token. Decoding a token alone would lose spaces and split characters, so a few tokens before it are decoded with it."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.start = self.read = 0  # ids[start:read] are context, ids[read:] not yet shown

    def add(self, token: int) -> str:
        """The text that this token completes; empty in the middle of a character."""
        self.ids.append(token)
        text = self._unread([])
        if text.endswith("\ufffd"):
            return ""
        self.start, self.read = self.read, len(self.ids)
        return text

    def peek(self, tokens: Sequence[int]) -> str:
        """The text that these tokens would have added."""
        return self._unread(tokens).removeprefix(self.rest()) if tokens else ""

    def rest(self) -> str:
        """The text of an incomplete character at the end."""
        return self._unread([]) if self.read < len(self.ids) else ""

    def _unread(self, more: Sequence[int]) -> str:
        return self._decode([*self.ids[self.start :], *more])[len(self._decode(self.ids[self.start : self.read])) :]

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False) if ids else ""
