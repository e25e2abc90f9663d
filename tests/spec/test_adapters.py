"""Models with PEFT's adapters, as targets and as draft models."""

import pytest
import torch

from drafters.draft_model import DraftModel
from spec import CausalLM, speculative
from spec.generate import generate
from tests.spec.generate.material import MASK, PADDED, call
from tests.tiny import build

peft = pytest.importorskip("peft")
pytestmark = [  # PEFT's own
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Position ids are not supported for parameter efficient tuning:UserWarning"),
]


def adapted(kind: str, **settings):
    torch.manual_seed(3)
    if kind == "LoraConfig":
        settings = {"target_modules": ["q_proj", "v_proj"], "r": 4, "init_lora_weights": False, **settings}
    return peft.get_peft_model(build("llama"), getattr(peft, kind)(task_type="CAUSAL_LM", **settings)).double().eval()


def answer(model, **options):
    arguments = {"input_ids": PADDED, "attention_mask": MASK, "max_new_tokens": 16, "do_sample": False, "pad_token_id": 0, **options}
    return model.generate(**arguments)


@pytest.fixture(scope="module")
def lora():
    return adapted("LoraConfig")


def test_an_adapter_of_weights_is_served(lora):
    wanted = answer(lora)
    assert not torch.equal(wanted, call(build("llama")))
    assert torch.equal(answer(lora, custom_generate=speculative()), wanted)
    assert torch.equal(generate(lora, PADDED, attention_mask=MASK, max_new_tokens=16, do_sample=False, pad_token_id=0), wanted)
    drafted = answer(lora, custom_generate=speculative(DraftModel(lora, num_tokens=4)), return_dict_in_generate=True)
    assert torch.equal(drafted.sequences, wanted)
    assert drafted.stats.tokens_per_step > 3  # it drafts for itself, adapter and all


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_learned_prompts_are_refused(kind):
    model = adapted(kind, num_virtual_tokens=3)
    answer(model)  # can be used without us, and afterwards is as it was
    message = "gets inputs by a prepare_inputs_for_generation of its own"
    with pytest.raises(ValueError, match=message):
        answer(model, custom_generate=speculative())
    with pytest.raises(ValueError, match=message):
        CausalLM(model)
    assert torch.equal(call(model.get_base_model(), custom_generate=speculative()), call(build("llama")))


def test_adapters_by_row_and_from_a_place_on_are_refused():
    by_row = adapted("LoraConfig")
    with pytest.raises(ValueError, match="was given PEFT's adapter_names"):
        answer(by_row, adapter_names=["default", "__base__", "default"], custom_generate=speculative())
    later = adapted("LoraConfig", alora_invocation_tokens=[9, 13])
    with pytest.raises(ValueError, match="was given PEFT's alora_offsets"):
        answer(later, custom_generate=speculative())
