"""What changes between two decodes besides weights: attributes, settings, functions, hooks. All of it is tried again."""

import pytest
import torch
import transformers as hf
from torch.nn.modules import module as torch_hooks
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.llama import modeling_llama

from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.families.tiny import build as tiny
from spec import CausalLM
from tests.spec.lean.test_lean import LLAMA, texts

CHANGES = {
    "an attribute": ("granite", lambda model, patch: setattr(model.model, "embedding_multiplier", 12.0)),
    "a layer's attribute": ("granite", lambda model, patch: setattr(model.model.layers[1], "residual_multiplier", 0.3)),
    "a setting": ("granite", lambda model, patch: setattr(model.config, "logits_scaling", 8.0)),
    "rope left out": ("smollm3", lambda model, patch: setattr(model.model.layers[0].self_attn, "use_rope", 0)),
    "a class's forward": (
        "llama",
        lambda model, patch: patch.setattr(type(model.model.layers[0].mlp), "forward", lambda self, x: self.down_proj(self.up_proj(x))),
    ),
    "a function": ("llama", lambda model, patch: patch.setattr(modeling_llama, "apply_rotary_pos_emb", lambda q, k, cos, sin: (q * cos[:, None], k))),
    "a function of a function": ("llama", lambda model, patch: patch.setattr(modeling_llama, "rotate_half", lambda x: -x)),
    "a hook for all": (
        "llama",
        lambda model, patch: patch.setitem(torch_hooks._global_forward_hooks, 1, lambda part, given, made: halved(part, made)),
    ),
}


def halved(part, made):
    return made * 0.5 if isinstance(part, torch.nn.Linear) else None


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_between_two_decodes_is_noticed(change, monkeypatch):
    name, make = CHANGES[change]
    model = tiny(name)
    target = CausalLM(model)
    first = texts(target, PromptLookup())
    assert target.runtime_kind == "lean"
    make(model, monkeypatch)
    wanted = texts(CausalLM(model, runtime="hf"), NoDraft(), temperature=0.7)
    assert texts(target, NoDraft(), temperature=0.7) == texts(CausalLM(model), NoDraft(), temperature=0.7) == wanted
    assert target.runtime_kind == "hf"
    monkeypatch.undo()
    if name == "llama":
        assert texts(target, PromptLookup()) == first
        assert target.runtime_kind == "lean"


def test_a_tower_beside_the_text_is_not_built_in_its_depth(monkeypatch):
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=6, num_attention_heads=2, image_size=14, patch_size=7
        ),
        text_config=hf.LlamaConfig(**LLAMA),
        image_token_index=3,
    )
    model, built = hf.LlavaForConditionalGeneration(config).double().eval(), []
    real = CLIPEncoderLayer.__init__
    monkeypatch.setattr(CLIPEncoderLayer, "__init__", lambda self, *given: (built.append(self), real(self, *given))[1])
    assert CausalLM(model).runtime_kind == "lean"
    assert len(built) == 1
