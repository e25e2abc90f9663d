"""From prompts to token ids, each of them checked before any work: what cannot be served is named while nothing has been spent."""

import logging
from dataclasses import dataclass

from omegaconf import DictConfig

from experiments.build import Parts
from experiments.data import Prompt, choose

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A prompt, ready to decode. `index` is its place in the run and keys its noise."""

    index: int
    prompt: Prompt
    tokens: list[int]


def make_tasks(config: DictConfig, parts: Parts) -> list[Task]:
    """Prompts as token ids, every one of them checked against the context. Raises ValueError naming the prompt that cannot be served."""
    tokenizer = parts.target.tokenizer
    context = min(parts.target.model.context, parts.drafter.context or parts.target.model.context)  # the drafter is attached by now
    if config.max_new_tokens >= context:
        raise ValueError(f"max_new_tokens={config.max_new_tokens} does not fit the context of {context} that target and drafter have; give less")
    tasks: list[Task] = []
    skipped = 0
    for prompt in choose(parts.prompts, config.num_prompts):
        if config.chat_template:
            turn = [{"role": "user", "content": prompt.text}]
            tokens = list(tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"])
        else:
            tokens = list(tokenizer(prompt.text, verbose=False)["input_ids"])
        if not tokens:
            raise ValueError(f"prompt {prompt.id} is empty after tokenization; give it text or remove it")
        if len(tokens) + config.max_new_tokens <= context:
            tasks.append(Task(len(tasks), prompt, tokens))
        elif config.skip_too_long:
            skipped += 1
        else:
            raise ValueError(
                f"prompt {prompt.id} has {len(tokens)} tokens and max_new_tokens is {config.max_new_tokens}, together more than the target's "
                f"context of {context}; set max_new_tokens lower, or skip_too_long=true to leave such prompts out"
            )
    if skipped:
        log.info("%d prompts do not fit the context of %d tokens and are left out", skipped, context)
    if not tasks:
        raise ValueError("no prompt is left to decode; choose other data or a lower max_new_tokens")
    return tasks


def eos_ids(parts: Parts) -> list[int]:
    """Tokens that end an answer: the model's own, else the tokenizer's."""
    settings = getattr(parts.target.model.model, "generation_config", None)
    eos = getattr(settings, "eos_token_id", None)
    eos = parts.target.tokenizer.eos_token_id if eos is None else eos
    return [] if eos is None else [eos] if isinstance(eos, int) else list(eos)


def check_numbers(config: DictConfig) -> None:
    """Raises ValueError for counts that make no sense."""
    for name, least in (("max_new_tokens", 1), ("batch_size", 1), ("threads", 1), ("warmup", 0), ("num_prompts", 1), ("seed", 0)):
        value = config[name]
        if (value is None and name == "num_prompts") or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
            continue
        raise ValueError(f"{name}={value}: give a whole number of at least {least}")
