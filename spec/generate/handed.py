"""What `generate` is given and does not hand on to a callable: streamer, assistant_model, tokenizer and others.

transformers (5.17 to 5.23) collects these arguments, reads the signature of the callable, and then drops what it collected: it looks for the
callable's parameters among the remaining arguments only. So a streamer would print the prompt and nothing else, an assistant would never be asked.
While our signature is read, they are put back among the remaining arguments, from where transformers hands them on by itself.
"""

import inspect
import sys
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any

from transformers import __version__
from transformers.generation import utils

from spec.generate.said import warn

COLLECTED = ("tokenizer", "assistant_tokenizer", "assistant_model", "streamer", "synced_gpus")  # by transformers, before it reads the signature
NEVER_SEEN = ("negative_prompt_ids", "negative_prompt_attention_mask")  # arguments of `generate` that only a logits processor gets
# All but the tokenizer under names of our own: transformers would not hand on two of them, and would judge assistants by their vocabulary sizes.
OWN_NAMES = {name: f"given_{name}" for name in (*COLLECTED[1:], *NEVER_SEEN)}
SOURCE, EXTRACT = inspect.getsourcefile(utils), "_extract_generation_mode_kwargs"  # where and by which method they are collected
OTHER_WAY = "give a drafter and the streamer to speculative(...), and stopping_criteria=[StopStringCriteria(tokenizer, ...)] for stop_strings"
PASSED = ("logits_processor", "stopping_criteria", "generation_config")  # by transformers itself


@dataclass(frozen=True)
class Handed:
    """The arguments of `generate` that reach no callable without help; None: not given."""

    tokenizer: Any = None
    assistant_tokenizer: Any = None
    assistant_model: Any = None
    streamer: Any = None
    synced_gpus: Any = None
    negative_prompt_ids: Any = None
    negative_prompt_attention_mask: Any = None

    @staticmethod
    def taken_from(arguments: dict[str, Any]) -> "Handed":
        """Takes them out of the arguments that a callable got."""
        return Handed(**{name: arguments.pop(OWN_NAMES.get(name, name), None) for name in (*COLLECTED, *NEVER_SEEN)})


def signature() -> Signature:
    """The parameters by which transformers finds what to hand on."""
    places = [Parameter(name, Parameter.POSITIONAL_ONLY) for name in ("model", "input_ids")]
    names = (*PASSED, *(OWN_NAMES.get(name, name) for name in (*COLLECTED, *NEVER_SEEN)))
    keywords = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in names]
    return Signature([*places, *keywords, Parameter("model_kwargs", Parameter.VAR_KEYWORD)])


def hand_over() -> None:
    """Puts the collected arguments back, if the caller is transformers' own function that collects them; otherwise does nothing.

    Warns where the installed transformers collects them in another way, so that they would be lost.
    """
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_filename != SOURCE:
        frame = frame.f_back
    if frame is None or frame.f_code.co_name == "generate":  # which reads the signature again, for something else
        return
    collected, remaining = frame.f_locals.get("generation_mode_kwargs"), frame.f_locals.get("kwargs")
    if frame.f_code.co_name != EXTRACT or frame.f_back is None or not isinstance(collected, dict) or not isinstance(remaining, dict):
        warn(f"transformers {__version__} does not hand on {', '.join(COLLECTED)} to functions in a known way: {OTHER_WAY}")
        return
    found = {name: collected.get(name) for name in COLLECTED} | {name: frame.f_back.f_locals.get(name) for name in NEVER_SEEN}
    remaining.update({OWN_NAMES.get(name, name): value for name, value in found.items() if value is not None})
