"""From one GGUF file to a folder that `from_pretrained` reads without further packages: weights in 16 bits, configuration, tokenizer."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from spec.converted.header import Header, read_header

PACKAGES = ("gguf", "accelerate")  # what transformers needs to read a GGUF file
F32, BF16 = 0, 30  # as ggml numbers the ways to store numbers
SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}  # tokens, as transformers and as GGUF files call them
ORIGIN = ("_model_name_or_path", "transformers_version", "is_local", "local_files_only")  # of JSON files: not what it is, but where it came from
OTHER = "take another file, or a folder of the model with model.safetensors"


def check_packages() -> None:
    """Raises ValueError where a package is missing, saying what to install."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ValueError(f"reading GGUF files needs {' and '.join(missing)}: pip install {' '.join(missing)}")


def check_file(file: Path) -> Header:
    """The head of a GGUF file that can be converted. Raises ValueError, in one line, for any other, OSError where it cannot be read."""
    check_packages()
    header = read_header(file)
    architecture, fields = str(header.fields.get("general.architecture")), header.fields
    if int(fields.get("split.count", 1)) > 1:
        raise ValueError(f"{file} is one of {fields['split.count']} pieces of a model; join them first (llama-gguf-split --merge)")
    if architecture not in _architectures():
        raise ValueError(
            f"{file} holds a model of the architecture {architecture!r}, which transformers {transformers.__version__} cannot read; {OTHER}"
        )
    if not fields.get("tokenizer.ggml.tokens"):
        raise ValueError(f"{file} has weights and no tokenizer (no tokenizer.ggml.tokens); {OTHER}")
    _check_tensors(header, file)
    return header


def _architectures() -> set[str]:
    """Those that transformers reads, as GGUF files spell them; later versions have two readers."""
    newer = import_module("transformers.integrations.gguf").GGUF_ARCHS if find_spec("transformers.integrations.gguf") else ()
    spelled = {name.replace("_", sign) for name in GGUF_SUPPORTED_ARCHITECTURES for sign in ("", "-", "_")}
    return (spelled | set(newer)) - {"general", "tokenizer"}


def _check_tensors(header: Header, file: Path) -> None:
    """Raises ValueError for weights that stay quantized because nothing unpacks them, and where the file is cut."""
    gguf, size = import_module("gguf"), file.stat().st_size
    zeros = import_module("numpy").zeros
    for kind in {tensor.kind for tensor in header.tensors.values()}:
        try:
            gguf.dequantize(zeros(gguf.GGML_QUANT_SIZES[kind][1], "uint8"), gguf.GGMLQuantizationType(kind))
        except (ValueError, KeyError, NotImplementedError) as error:
            known = {item.value: item.name for item in gguf.GGMLQuantizationType}
            raise ValueError(f"{file} has weights quantized as {known.get(kind, f'type {kind}')}, which cannot be unpacked; {OTHER}") from error
    for name, tensor in header.tensors.items():
        block, width = gguf.GGML_QUANT_SIZES[tensor.kind]
        if header.start + tensor.offset + tensor.count // block * width > size:
            raise ValueError(f"{file} is cut: it ends before the weights {name}; copy or download it again")


def size_of(header: Header) -> int:
    """Bytes of the converted weights."""
    return dtype_of(header).itemsize * sum(tensor.count for tensor in header.tensors.values())


def dtype_of(header: Header) -> torch.dtype:
    """What the weights are saved in: float16, but where the file has more than that holds."""
    kinds = {tensor.kind for tensor in header.tensors.values() if len(tensor.dims) > 1}
    if F32 in kinds:
        return torch.float32
    return torch.bfloat16 if kinds == {BF16} else torch.float32 if BF16 in kinds else torch.float16


def convert(file: Path, folder: Path, prompt: str = "", says: str = "") -> dict[str, Any]:
    """Writes the model in `file` to `folder`; returns what is to be known of how. Every weight becomes the number that it stands for.

    `says`: what the model must go on with after `prompt`. Raises ValueError, in one line, for what cannot be converted.
    """
    header = check_file(file)
    where: Any = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name, "trust_remote_code": False}
    with _in_one_line(file):
        config, tokenizer = AutoConfig.from_pretrained(**where), _tokenizer(where, header)
        if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
            raise ValueError(f"it is no causal language model ({config.model_type}); take a decoder-only one")
        loaded: Any = AutoModelForCausalLM.from_pretrained(**where, **_unpacked(), dtype=torch.float32, output_loading_info=True)
    model, found = loaded
    _check_weights(model, found, file)
    if says:
        _check_answer(model, tokenizer, prompt, says)
    plain = plain_model(model, dtype_of(header))
    if wrong := [name for name, weight in plain.state_dict().items() if not weight.isfinite().all()]:
        raise ValueError(f"{file} has weights that are no numbers in {plain.dtype} ({wrong[0]}); {OTHER}")
    try:
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # what safetensors and tokenizers raise for a full disk
        raise OSError(" ".join(str(error).split())) from error
    for file_made in folder.glob("*config.json"):
        _without_origin(file_made)
    return {"architecture": header.fields["general.architecture"], "dtype": str(plain.dtype).removeprefix("torch.")}


def _tokenizer(where: dict[str, Any], header: Header) -> Any:
    """The tokenizer with the special tokens that the file names: earlier versions of transformers take the first token for the last."""
    tokenizer: Any = AutoTokenizer.from_pretrained(**where)
    for name, called in SPECIAL.items():
        tokenizer.init_kwargs.pop(f"{name}_token_id", None)
        number = header.fields.get(f"tokenizer.ggml.{called}_token_id")
        setattr(tokenizer, f"{name}_token", None if number is None else tokenizer.convert_ids_to_tokens(number))
    tokenizer.clean_up_tokenization_spaces = False
    return tokenizer


def _unpacked() -> dict[str, Any]:
    """Later versions of transformers would leave weights quantized where a kernel for them is installed."""
    settings = getattr(transformers, "GgufConfig", None)
    return {} if settings is None else {"quantization_config": settings(dequantize=True)}


def _check_weights(model: Any, found: dict[str, Any], file: Path) -> None:
    if missing := sorted(found["missing_keys"]) or sorted(str(key) for key in found["mismatched_keys"]):
        raise ValueError(f"{file} lacks {len(missing)} weights of its model ({', '.join(missing[:3])}); {OTHER}")
    if packed := [name for name, weight in model.state_dict().items() if not weight.is_floating_point()]:
        raise ValueError(f"transformers leaves weights of {file} quantized ({packed[0]}); {OTHER}")


@torch.inference_mode()
def _check_answer(model: Any, tokenizer: Any, prompt: str, says: str) -> None:
    """Raises ValueError where a converted model does not know what it knew: then it was read wrongly."""
    best = int(model(input_ids=tokenizer(prompt, return_tensors="pt").input_ids).logits[0, -1].argmax())
    if tokenizer.decode([best]) != says:
        raise ValueError(
            f"after {prompt!r} the converted model says {tokenizer.decode([best])!r} and not {says!r}: transformers {transformers.__version__} "
            "reads its file wrongly; take another version"
        )


def plain_model(model: Any, dtype: torch.dtype) -> Any:
    """The same weights in a model that is not marked as quantized: one with that mark cannot be saved."""
    config = type(model.config).from_dict({key: value for key, value in model.config.to_dict().items() if key != "quantization_config"})
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict({name: weight.to(dtype) for name, weight in model.state_dict().items()}, assign=True)
    plain.tie_weights()
    plain.config.dtype = dtype
    plain.generation_config = model.generation_config
    return plain


def _without_origin(file: Path) -> None:
    """So that a model is the same file on every machine."""
    found = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({key: value for key, value in found.items() if key not in ORIGIN}, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _in_one_line(file: Path) -> Iterator[None]:
    """Whatever transformers raises for a file of others becomes a ValueError of one line; only a lack of memory stays what it is."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"transformers {transformers.__version__} cannot read {file}: {kind}{text[:300]}; {OTHER}") from error
