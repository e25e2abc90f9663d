"""Which peers are examined under which settings, with controls: what must pass and what must fail for the others' verdicts to mean anything."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from drafters.draft_model import DraftModel
from experiments.lossless.mutants.chains import SoftArgmax
from experiments.lossless.peers.distribution_check import DistributionCheck, DistributionRow, tempered
from experiments.lossless.peers.toys import STRANGER_TOKENS, TARGET_TOKENS, ToyPair, toy_pair, toy_tokenizer
from experiments.parts.data.prompts import choose
from experiments.parts.data.sources import embedded
from experiments.parts.peers.greedy import GreedyCheck, GreedyRow
from experiments.parts.peers.transformers_generate import Assisted, Generate, OtherTokenizer, PromptLookup
from experiments.parts.roles import Loop, Role
from spec.loading import load_model, load_tokenizer
from spec.model import CausalLM
from verifiers.recursive import Recursive

WIDE = 250  # texts of a batch, where a peer takes batches
CONTROL_TEMPERATURE = 1.5


@dataclass(frozen=True)
class Case:
    """A role under a setting, and the verdict that it must get if it is a control."""

    role: Role
    setting: str
    must: str | None = None  # "pass", "fail" or None: to be found out


def controls(pair: ToyPair, num_tokens: int, setting: str) -> list[Case]:
    """Plain `generate` and our loop, which must pass; a known temperature error and a drafter that declares argmax tokens soft, which must fail."""
    target, plain = CausalLM(pair.target), Generate(pair.target, batch_size=WIDE)
    right = Loop(target, DraftModel(model=pair.assistant, num_tokens=num_tokens), Recursive(), "ours, draft_model + recursive", batch_size=WIDE)
    wrong = replace(right, drafter=SoftArgmax(model=pair.assistant, num_tokens=num_tokens), name="ours, argmax declared soft (control)")
    return [
        Case(plain, setting, "pass"),
        Case(right, setting, "pass"),
        Case(tempered(plain, CONTROL_TEMPERATURE), setting, "fail"),
        Case(wrong, setting, "fail"),
    ]


def strangers(pair: ToyPair, num_tokens: int) -> Iterator[OtherTokenizer]:
    """The assistant of other tokens twice: its tokenizer lists its vocabulary against the order of ids, as a hash map may, and in that order."""
    for listed in (STRANGER_TOKENS[::-1], STRANGER_TOKENS):
        other = toy_tokenizer(STRANGER_TOKENS, listed)
        yield OtherTokenizer(
            pair.target, assistant=pair.stranger, num_tokens=num_tokens, tokenizer=toy_tokenizer(TARGET_TOKENS), assistant_tokenizer=other
        )


def distribution_rows(check: DistributionCheck, num_tokens: int, seed: int) -> Iterator[tuple[DistributionRow, str | None]]:
    """Every case on the toy pair, in float32 and bfloat16; with each row, what it must say."""
    for dtype in (torch.float32, torch.bfloat16):
        pair, setting = toy_pair(seed, dtype), str(dtype).removeprefix("torch.")
        cases = controls(pair, num_tokens, setting)
        cases.append(Case(Assisted(pair.target, assistant=pair.assistant, num_tokens=num_tokens), setting))
        cases.append(Case(PromptLookup(pair.target, num_tokens=num_tokens), setting))
        if dtype == torch.float32:
            kinds = ("vocabulary listed out of order", "vocabulary listed by id")
            cases += [Case(peer, f"{setting}, {kind}") for peer, kind in zip(strangers(pair, num_tokens), kinds, strict=True)]
        for case in cases:
            yield check.run(case.role, pair.target, case.setting), case.must


def toy_greedy_rows(num_tokens: int, seed: int, max_new_tokens: int) -> Iterator[tuple[GreedyRow, str | None]]:
    """Greedy parity where the assistant has another tokenizer, on toy pairs; ours beside it."""
    pair = toy_pair(seed)
    prompts = [[*pair.prompt, *tail] for tail in ([], [1], [2, 0], [3, 3, 1])]
    check = GreedyCheck(pair.target, prompts, max_new_tokens)
    for peer in (next(strangers(pair, num_tokens)), Assisted(pair.target, assistant=pair.assistant, num_tokens=num_tokens)):
        yield check.run(peer, "float32, toy pair"), None


def greedy_rows(names: tuple[str, str], dtype: str, num_prompts: int, max_new_tokens: int) -> Iterator[tuple[GreedyRow, str | None]]:
    """Greedy parity on a real pair: the peers and ours against plain `generate` of the same dtype."""
    target, drafter = (load_model(name, getattr(torch, dtype)) for name in names)
    tokenizer = load_tokenizer(names[0])
    prompts = [tokenizer(prompt.text)["input_ids"] for prompt in choose(embedded(), num_prompts)]
    check = GreedyCheck(target, prompts, max_new_tokens)
    ours = Loop(CausalLM(target), DraftModel(model=drafter), Recursive(), "ours, draft_model + recursive", batch_size=1)
    for role in (Assisted(target, assistant=drafter), PromptLookup(target), ours):
        yield check.run(role, f"{dtype}, {names[0]}"), "pass" if role is ours else None


def to_json(rows: list[tuple[Any, str | None]]) -> list[dict[str, Any]]:
    """Rows as JSON objects; `must` says what a control has to come out as."""
    return [json.loads(json.dumps(row.to_json() | {"must": must})) for row, must in rows]


def broken(rows: list[tuple[Any, str | None]]) -> list[str]:
    """Controls that came out otherwise than they must: then no verdict of this run means anything."""
    return [f"{row.peer} ({row.setting}) came out as {row.verdict}, and must {must}" for row, must in rows if must not in (None, row.verdict)]
