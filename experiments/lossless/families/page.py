"""docs/models.md from what was found."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from experiments.lossless.families.judge import CHAINS, CRASH, IDENTICAL, NOT_BUILT, REFUSED, WRONG, Finding
from experiments.lossless.families.tiny import CONTEXT, WINDOW, model_class
from experiments.lossless.families.variants import Variant
from spec.reach import longest_exact
from spec.rows import NUM_TRIED

PAGE = Path(__file__).resolve().parents[3] / "docs" / "models.md"
HEAD = f"""# Models

Which decoder-only families of transformers are served exactly. This page is written by `python -m experiments.lossless.families`; do not edit it.

Every type of model that `AutoModelForCausalLM` knows is built tiny and random (2 layers, 32 channels, {CONTEXT} positions, windows and chunks of
{WINDOW} positions where layers attend within them) and tried:

- **identical**: greedy texts from the loop are `model.generate`'s, token by token, for plain decoding, prompt lookup, a draft chain, a draft tree
  and lookahead, with three prompts of different lengths in one batch, up to the last position of the context, while `generate` gets each prompt
  alone with its attention mask; plain and draft tree also over the fixed shapes that `runtime=compile` and `graphs` have. Texts sampled with a seed
  are the same alone and in the batch, plain, with chains and with trees. And the logits after every slot of a tree behind rows of different lengths
  are those of the model's own forward over the same tokens alone, without a cache, to 1e-4 (mostly to 1e-14; to 1e-6 where a class computes in
  float32 inside). A model whose logits do not depend on its prompt is not accepted.
- **chains only**: the class takes no positions for the slots of a draft (or makes its ALiBi or its local masks from the cache's columns) and counts
  what its cache holds. It gets chains, every row of a ragged batch in a forward of its own length, and all of the above holds for plain decoding,
  prompt lookup and a draft chain. A draft tree and lookahead were tried and refused with the line given, `runtime=compile` and `graphs` with one of
  their own. Such a class is served where a trial of {NUM_TRIED} tokens, when it is wrapped, shows that it does count so (`spec/rows.py`).
- **refused**: `CausalLM(model)` raises a ValueError with the line given. What is refused is decided by the structure of a model, not by its name
  (`spec/servable.py`), so it holds for models that are not listed here.
- **not built**: no tiny model could be made, for the reason given. This says nothing about the family.

All of it is in float64 (one class in float32), run by plain calls on a CPU. A family is what its configuration says: the second table has settings
that change the verdict. Random weights show that masks, positions and caches are right; they do not show how rounding goes in 16 bits.
"""
MATTERS = """## What else could reach beyond a token's own prefix

Looked for in the sources of transformers 5.17 and 5.23; the tests named are in `tests/spec/test_servable.py`.

- *Windows and chunks*: a slot sees what its own position says, so masks are made by positions, one for each type of layers
  (`tests/families/test_windows.py`). Refused beyond its window is a model that hides what is outside by no mask of transformers' own, one whose
  layers of one type have windows of several sizes, and chunks under flash attention. Slots behind a window stay in the cache.
- *8-bit weights of bitsandbytes* (LLM.int8): columns with outliers are left in 16 bits, and which ones is decided over all rows and slots of a
  forward. Such models are refused; `target.quantization=8bit` loads them with `llm_int8_threshold=0.0`, which decides nothing
  (`test_eight_bits_do_not_depend_on_the_neighbours`). 4-bit weights are the same for every token. Other ways to quantise activations were not
  looked at.
- *Dropout, dropped layers, noise in routers*: in training mode alone, which is refused where any of it is set (`test_a_model_in_training_mode`).
- *Experts*: every router chooses per token, but for Doge's, which is refused. No class of the list has a capacity that tokens compete for; the word
  is found in comments only.
- *Masks that a version leaves out*: in transformers 5.17, RemBERT, Megatron-BERT, BigBird and Doge see all of a prompt while they read it. There they
  are refused (`test_a_family_without_a_causal_mask_is_refused`, `test_doge_without_a_mask_of_its_own_is_refused`).
- *Soft caps, norms, altup, activation sparsity*: statistics over channels, never over rows or positions.
- *Attention sinks*: weights of a head, the same for every row.
- *Hash and n-gram embeddings, convolutions, recurrent and linear layers, key indexes, compressed keys*: state beside keys and values, refused by
  kind of layer.
- *Token types, prefix blocks, images, audio*: inputs of their own, which the loop never gives and `generate(custom_generate=...)` refuses.
- *Positions of left padding*: the loop pads nothing; rows have positions of their own. Where `generate` counts left padding as positions (Bart
  and its like), its text of a padded row is another one than of the row alone; the loop's is that of the row alone.
- *Gemma 4's assistants* rank their vocabulary by a minimum over the whole batch; they take no cache, for which they would be refused (transformers
  5.23 cannot build them).
"""


@dataclass(frozen=True)
class Trial:
    """A type of model, or a variant of one, and what became of it."""

    model_type: str
    finding: Finding
    variant: Variant | None = None

    def row(self) -> str:
        """A line of one of the two tables."""
        found = self.finding
        note = cell(found.why) or self.reach()
        cells = [self.model_type, f"`{model_class(self.model_type).__name__}`", found.verdict, note]
        if self.variant is not None:
            cells = [self.variant.question, self.variant.name, found.verdict, note]
        return f"| {' | '.join(cells)} |"

    def reach(self) -> str:
        """How far a model of the type goes as it comes, where that is less than its positions."""
        if self.variant is not None:
            return ""
        try:
            config = CONFIG_MAPPING[self.model_type]().get_text_config(decoder=True)
        except Exception:  # a type whose default is not valid
            return ""
        limit, positions = longest_exact(config), getattr(config, "max_position_embeddings", None)
        return f"with default settings up to {limit} of {positions} positions" if limit and positions and limit < positions else ""


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def totals(trials: Sequence[Trial]) -> str:
    """How many types and classes there are of every verdict."""
    counts = Counter(trial.finding.verdict for trial in trials)
    classes = {trial.model_type: model_class(trial.model_type).__name__ for trial in trials}
    identical, chains = ({classes[trial.model_type] for trial in trials if trial.finding.verdict == wanted} for wanted in (IDENTICAL, CHAINS))
    order = [IDENTICAL, CHAINS, REFUSED, NOT_BUILT, WRONG, CRASH]
    listed = ", ".join(f"{counts[verdict]} {verdict}" for verdict in order)
    return f"{len(trials)} types: {listed}. Identical are {len(identical)} classes, {len(chains)} more serve chains."


def page(trials: Sequence[Trial]) -> str:
    """The whole page."""
    kinds, variants = ([trial for trial in trials if (trial.variant is not None) == wanted] for wanted in (False, True))
    made = f"Made on {date.today().isoformat()} with transformers {transformers.__version__} and torch {torch.__version__}. {totals(kinds)}"
    table = ["| type | class | verdict | note |", "| --- | --- | --- | --- |", *(trial.row() for trial in kinds)]
    special = ["| what could reach beyond a prefix | tried on | verdict | note |", "| --- | --- | --- | --- |", *(trial.row() for trial in variants)]
    return "\n".join([HEAD, made, "", *table, "", "## Settings that matter", "", *special, "", MATTERS])
