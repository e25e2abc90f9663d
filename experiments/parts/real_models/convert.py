"""From one GGUF file to a folder that `from_pretrained` reads without further packages: float32 weights, configuration, tokenizer."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

PACKAGES = ("gguf", "accelerate")  # what transformers needs to read a GGUF file


def check_packages() -> None:
    """Raises ValueError where a package is missing, saying what to install."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ValueError(f"reading GGUF files needs {' and '.join(missing)}: pip install {' '.join(missing)}")


def convert(file: Path, folder: Path) -> None:
    """Writes the model in `file` to `folder`. The 4-bit weights become the float32 numbers that they stand for.

    Raises ValueError where transformers cannot read the file.
    """
    if not sys.stderr.isatty():
        disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (OSError, ValueError, ImportError, NotImplementedError) as error:
        raise ValueError(f"transformers could not read {file.name}: {' '.join(str(error).split())}") from error
    unquantized(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def unquantized(model: Any) -> Any:
    """The same weights in a model that is not marked as quantized: a model with that mark cannot be saved."""
    config = type(model.config).from_dict({key: value for key, value in model.config.to_dict().items() if key != "quantization_config"})
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain


@torch.inference_mode()
def continuation(folder: Path, prompt: str, num_tokens: int = 8) -> str:
    """What the model in `folder` makes of a prompt by greedy decoding, prompt included."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, return_tensors="pt")
    found = model.generate(input_ids=ids.input_ids, attention_mask=ids.attention_mask, max_new_tokens=num_tokens, do_sample=False)
    return tokenizer.decode(found[0], skip_special_tokens=True)
