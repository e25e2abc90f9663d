"""From prompts to token ids, each of them checked before any work: what cannot be served is refused before any time is spent on it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.parts.build import Parts
from experiments.parts.data.prompts import Prompt, choose, turn_id
from experiments.parts.settings import Settings

TURN_STRIDE = 1 << 32  # further turns have noise of their own: their indices lie beyond those of any set of prompts
SHORTEST_ANSWER = "."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One turn of a prompt, ready to decode. `index` is its place in the run and keys its noise; `answers`: the baseline's to earlier turns."""

    index: int
    prompt: Prompt
    tokens: list[int]
    turn: int = 1
    answers: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The id of its records: the prompt's own, and `<id>/2` for the second turn."""
        return turn_id(self.prompt.id, self.turn)


@dataclass(frozen=True)
class Encoder:
    """Turns text into tokens, as the settings say. `context`, the smaller of target's and drafter's, limits how many there may be.

    Raises ValueError where the settings contradict each other or the target.
    """

    tokenizer: Any
    context: int
    settings: Settings

    def __post_init__(self) -> None:
        asked = self.settings
        if asked.chat_template and not getattr(self.tokenizer, "chat_template", None):
            raise ValueError(
                "chat_template=true, but the target's tokenizer has no chat template; choose an instruction-tuned target or set chat_template=false"
            )
        if asked.system_prompt is not None and not asked.chat_template:
            raise ValueError("system_prompt is given, but only a chat template has a place for it; set chat_template=true or system_prompt=null")
        if asked.max_new_tokens >= self.context:
            raise ValueError(
                f"max_new_tokens={asked.max_new_tokens} does not fit the context of {self.context} that target and drafter have; give less"
            )

    @classmethod
    def of(cls, settings: Settings, parts: Parts) -> "Encoder":
        """For the target of a run, whose drafter is attached. Raises ValueError as above."""
        context = parts.target.model.context
        return cls(parts.target.tokenizer, min(context, parts.drafter.traits.context or context), settings)

    def encode(self, turns: Sequence[str], answers: Sequence[str]) -> list[int]:
        """Token ids of a conversation that ends with the user's last turn, which has no answer yet.

        With a chat template it is a list of messages. Without one it is plain text: every answer follows its turn as it was decoded, and an empty
        line stands before the next turn. Raises ValueError where the template does not take the messages.
        """
        if self.settings.chat_template:
            return self._by_template(turns, answers)
        text = "".join(f"{turn}{answer}\n\n" for turn, answer in zip(turns, answers, strict=False)) + turns[-1]
        return list(self.tokenizer(text, verbose=False)["input_ids"])

    def fits(self, tokens: Sequence[int]) -> bool:
        """Whether the context has room for a whole answer to these tokens."""
        return len(tokens) + self.settings.max_new_tokens <= self.context

    def _by_template(self, turns: Sequence[str], answers: Sequence[str]) -> list[int]:
        messages = [] if self.settings.system_prompt is None else [{"role": "system", "content": self.settings.system_prompt}]
        for index, turn in enumerate(turns):
            messages.append({"role": "user", "content": turn})
            messages += [{"role": "assistant", "content": answer} for answer in answers[index : index + 1]]
        try:
            return list(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"])
        except Exception as error:  # a template is code of the model's authors and may raise anything
            roles = ", ".join(message["role"] for message in messages)
            raise ValueError(f"the tokenizer's chat template does not take the messages ({roles}): {' '.join(str(error).split())}") from error


def make_tasks(prompts: Sequence[Prompt], encoder: Encoder) -> list[Task]:
    """The first turn of every chosen prompt as token ids, checked against the context. Raises ValueError naming the prompt that cannot be served."""
    settings = encoder.settings
    tasks: list[Task] = []
    skipped = 0
    for prompt in choose(prompts, settings.num_prompts):
        tokens = encoder.encode(prompt.turns[:1], ())
        if not tokens:
            raise ValueError(f"prompt {prompt.id} is empty after tokenization; give it text or remove it")
        if encoder.fits(tokens):
            tasks.append(Task(len(tasks), _possible(prompt, encoder), tokens))
        elif settings.skip_too_long:
            skipped += 1
        else:
            raise ValueError(
                f"prompt {prompt.id} has {len(tokens)} tokens and max_new_tokens is {settings.max_new_tokens}, together more than the target's "
                f"context of {encoder.context}; set max_new_tokens lower, or skip_too_long=true to leave such prompts out"
            )
    if skipped:
        log.info("%d prompts do not fit the context of %d tokens and are left out", skipped, encoder.context)
    if not tasks:
        raise ValueError("no prompt is left to decode; choose other data or a lower max_new_tokens")
    return tasks


def next_turn(task: Task, answer: Sequence[int], encoder: Encoder) -> Task | None:
    """The task of the following turn, whose history holds the baseline's `answer` (token ids, special ones are left out).

    None after the last turn, and where the turn does not fit the context or the template does not take the answer: then a line of the log says so.
    """
    if task.turn >= len(task.prompt.turns):
        return None
    answers = (*task.answers, encoder.tokenizer.decode(answer, skip_special_tokens=True))
    turn = task.turn + 1
    try:
        tokens = encoder.encode(task.prompt.turns[:turn], answers)
    except ValueError as error:
        log.warning("turn %d of prompt %s is left out: %s", turn, task.prompt.id, error)
        return None
    if not encoder.fits(tokens):
        log.warning("turn %d of prompt %s has %d tokens with its history and is left out", turn, task.prompt.id, len(tokens))
        return None
    return Task(task.index % TURN_STRIDE + task.turn * TURN_STRIDE, task.prompt, tokens, turn, answers)


def make_batches(tasks: Sequence[Task], batch_size: int, batching: str = "order") -> list[list[Task]]:
    """Tasks that are decoded together: neighbours in the run (`order`), or such of similar length (`length`), which wastes less on padding.

    Batches stand in the order of their first tasks and do not depend on what was decoded before, so that a resumed run makes the same ones.
    """
    ranked = sorted(tasks, key=lambda task: (len(task.tokens), task.index)) if batching == "length" else list(tasks)
    batches = [ranked[start : start + batch_size] for start in range(0, len(ranked), batch_size)]
    return sorted(batches, key=lambda batch: min(task.index for task in batch))


def _possible(prompt: Prompt, encoder: Encoder) -> Prompt:
    """The prompt with the turns that fit if all answers are as short as possible. Raises ValueError if a turn does not fit, unless skip_too_long."""
    for turn in range(2, len(prompt.turns) + 1):
        tokens = encoder.encode(prompt.turns[:turn], [SHORTEST_ANSWER] * (turn - 1))
        if encoder.fits(tokens):
            continue
        if not encoder.settings.skip_too_long:
            raise ValueError(
                f"turn {turn} of prompt {prompt.id} comes after {len(tokens)} tokens even if nothing is answered, which with "
                f"max_new_tokens={encoder.settings.max_new_tokens} is more than the context of {encoder.context}; set max_new_tokens lower, "
                "data.turns to fewer turns, or skip_too_long=true to leave such turns out"
            )
        log.info("prompt %s: turns from the %d. on do not fit the context of %d tokens and are left out", prompt.id, turn, encoder.context)
        return replace(prompt, turns=prompt.turns[: turn - 1])
    return prompt
