"""Small float32 models under the compiled forward."""

import torch
import transformers as hf

from spec import CausalLM
from spec.types import Draft
from tests.tiny import COMMON, GROUPED

PROMPTS = [[1, 2, 3, 1, 2, 3, 1, 2], [5], [7, 8, 9, 7, 8], [4, 4, 4]]


def llama(**settings):
    torch.manual_seed(0)
    return hf.LlamaForCausalLM(hf.LlamaConfig(**{**COMMON, **GROUPED, **settings})).eval()


def wrapped(model):
    target = CausalLM(model, 40, "lean")
    assert target.lean is not None
    assert target.lean.native is not None
    return target


@torch.inference_mode()
def logits(target, draft, prompts=PROMPTS[:1]):
    return target.score(draft, target.prefill(prompts).cache).logits


def chain(*tokens):
    return Draft.chain(torch.tensor(tokens))
