"""Models and tokenizers by name: a hub id, a local folder, a GGUF file, one of the embedded pair, or a published model that is
fetched at its first use (`spec.converted`). What is wrong with one is said in one line (ValueError).

No code that comes with a model is ever run (`trust_remote_code=False`), and weights are read from safetensors files only. A checkpoint must have
every weight of its model and no other: a missing one would be random. A model object that a caller passes is not checked for this.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from os import PathLike, environ, fspath
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedTokenizerBase
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils.hub import cached_file

from spec.arguments import shown
from spec.checkpoint import AGAIN, INDEX, PICKLED, WEIGHTS, check_model_folder, json_object, shards, weights_name
from spec.converted import PUBLISHED, folder_of

EMBEDDED = Path(__file__).resolve().parent / "embedded"
DTYPES = ("float32", "float64", "bfloat16", "float16")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json", "config.json")
TOKENIZER_DATA = ("tokenizer.json", "tokenizer*.model", "vocab*", "*.model", "*.tiktoken", "tekken.json")
UNREACHABLE = "no such folder, no safetensors weights of it were downloaded before, and the hub cannot be reached; give a folder or connect"
NAMES = f"give a hub id, a local folder, a GGUF file, {', '.join(PUBLISHED)} or embedded/target"
OWN_CODE = "it needs code of its own, and code that comes with a model is never run; take a model that transformers itself knows"
OLD_BUFFERS = re.compile(r"(^|\.)inv_freq$")  # computed from the configuration; old checkpoints hold them
PROBE = 5.0  # seconds to wait for an answer of the hub


@dataclass(frozen=True)
class Source:
    """Where a model is read from."""

    name: str
    folder: Path | None  # None: a hub id
    options: dict[str, Any]  # for every `from_pretrained`

    @property
    def place(self) -> str:
        return self.name if self.folder is None else str(self.folder)


def resolve_name(name: str) -> str:
    """The folder of `embedded/target`, `embedded/drafter`, `smollm2`, `gemma3_270m` or a GGUF file; other names are returned as they are.

    A published model is fetched and a GGUF file converted at the first use. Raises ValueError for an unknown embedded name, and where that fails.
    """
    if not name.startswith("embedded/"):
        return str(folder_of(name) or name)
    folder = EMBEDDED / name.removeprefix("embedded/")
    if not (folder / "config.json").exists():
        known = sorted(f"embedded/{path.parent.name}" for path in EMBEDDED.glob("*/config.json"))
        near = get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        if not known:
            raise ValueError(f"{name!r} did not come with this copy, as no embedded model did: name another model, a folder or a hub id, or give one")
        raise ValueError(f"unknown embedded model {name!r}{hint} Known: {', '.join(known)}")
    return str(folder)


def load_model(
    name: str | PathLike,
    dtype: str | torch.dtype = "auto",
    device_map: Any = None,
    attn_implementation: str = "sdpa",
    quantization: str | None = None,
) -> Any:
    """A causal LM in eval mode. `dtype`: "auto" is the checkpoint's own.

    quantization: "8bit" or "4bit" (nf4) load the weights through bitsandbytes. Raises ValueError, in one line, for a name, a setting or a checkpoint
    that cannot be loaded, and where weights are missing, unknown or of another shape.
    """
    if not isinstance(attn_implementation, str) or "/" in attn_implementation:  # with a slash it would be code from the hub
        raise ValueError(f"attn_implementation={shown(attn_implementation)}: give sdpa, eager, flex_attention or flash_attention_2")
    options: dict[str, Any] = {"dtype": _dtype(dtype), "attn_implementation": attn_implementation}
    if device_map is not None:
        options["device_map"] = device_map
    if quantization is not None:
        options["quantization_config"] = _bitsandbytes(quantization)
    with _in_one_line("model", name):
        source = _source(name)
        if source.folder is not None:
            check_model_folder(source.folder)
        config = _config(source)
        _check_kind_of_model(config)
        if source.folder is None:
            _check_hub_weights(config, source)
        with _foreign(source), _without_report():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source.place, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options, **source.options
            )
        model, found = loaded
        _check_weights(found, source)
    return model.eval()


def load_config(name: str | PathLike) -> Any:
    """The configuration of a model, without its weights. Raises ValueError as `load_model` does."""
    with _in_one_line("model", name):
        return _config(_source(name))


def load_tokenizer(name: str | PathLike) -> Any:
    """The tokenizer of a model. Raises ValueError, in one line, where there is none or its files are damaged."""
    with _in_one_line("tokenizer", name):
        source = _source(name)
        _check_tokenizer_class(source)
        with _foreign(source, TOKENIZER_DATA):
            tokenizer = AutoTokenizer.from_pretrained(source.place, **source.options)
        files = set(getattr(tokenizer, "vocab_files_names", {}).values())
        if source.folder is not None and files and not any((source.folder / file).exists() for file in files | {"tokenizer.json"}):
            raise ValueError(f"{source.folder} holds no tokenizer (none of {', '.join(sorted(files | {'tokenizer.json'}))}); copy it from the model")
        return tokenizer


def _source(name: Any) -> Source:
    if not isinstance(name, (str, PathLike)) or not str(fspath(name)).strip():
        raise ValueError(f"this is no name; {NAMES}")
    text = str(fspath(name))
    path = Path(resolve_name(text))
    if path.is_dir():
        return Source(text, path, {"trust_remote_code": False})
    if path.exists():
        raise ValueError(f"{text} is a file; give the folder that it lies in")
    if not HUB_ID.fullmatch(text) or text.endswith(".safetensors"):
        raise ValueError(f"there is no folder {text}, and it is no hub id; {NAMES}")
    return Source(text, None, {"trust_remote_code": False} | ({} if _hub_answers() else {"local_files_only": True}))


def _hub_answers() -> bool:
    """Whether the hub can be reached. Asked once before a model is looked for: its own library asks for minutes, file by file."""
    if environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    try:
        urlopen(Request(environ.get("HF_ENDPOINT", "https://huggingface.co"), method="HEAD"), timeout=PROBE).close()
    except HTTPError:
        return True
    except (URLError, OSError) as error:
        return "CERTIFICATE" in str(error)  # it answered, and its library has certificates of its own
    return True


def _config(source: Source) -> Any:
    """The configuration. Raises ValueError for a kind of model that transformers does not know."""
    if source.folder is not None:
        raw = json_object(source.folder / "config.json")
        kind = raw.get("model_type")
        if not isinstance(kind, str):
            raise ValueError(f"{source.folder / 'config.json'} has no model_type, so nothing says what model it is; {AGAIN}")
        if kind not in transformers.CONFIG_MAPPING:
            unknown = f"transformers {transformers.__version__} does not know its model_type {kind!r}; take a newer version or another model"
            raise ValueError(OWN_CODE if raw.get("auto_map") else unknown)
    with _foreign(source):
        return AutoConfig.from_pretrained(source.place, **source.options)


def _check_hub_weights(config: Any, source: Source) -> None:
    """Raises ValueError where the files of a hub model name weights that are no safetensors: those would be loaded as well."""
    name = weights_name(config.to_dict(), Path("."))
    with _foreign(source):
        index = cached_file(source.name, INDEX if name == WEIGHTS else name, _raise_exceptions_for_missing_entries=False, **source.options)
    if index is not None and index.endswith(".index.json"):
        shards(Path(index).parent, Path(index).name)


def _check_kind_of_model(config: Any) -> None:
    kind, known = config.model_type, type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"it is an encoder-decoder model ({kind}); take a decoder-only causal language model")
    if not known:
        own = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
        raise ValueError(OWN_CODE if own else f"it is no causal language model ({kind}); take a decoder-only one")
    if any(str(name).endswith("ForMaskedLM") for name in config.architectures or ()) and not getattr(config, "is_decoder", False):
        raise ValueError(f"it is an encoder ({config.architectures[0]}), whose tokens see what follows; take a decoder-only causal language model")


def _check_weights(found: dict[str, Any], source: Source) -> None:
    """Raises ValueError where a checkpoint lacks weights, holds others than the model's, or has them in other shapes."""
    mismatched = sorted(found["mismatched_keys"])
    shapes = [f"{key} is {list(given)} and should be {list(wanted)}" for key, given, wanted in mismatched]
    unexpected = [key for key in found["unexpected_keys"] if not OLD_BUFFERS.search(key)]
    kinds = {
        "missing": sorted(set(found["missing_keys"]) - {key for key, *_ in mismatched}),
        "of another shape": shapes,
        "unknown": sorted(unexpected),
    }
    wrong = [f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" for kind, keys in kinds.items() if keys]
    if wrong:
        raise ValueError(f"the weights in {source.place} are not those of its config.json: {'; '.join(wrong)}; take a complete copy of the model")


def _check_tokenizer_class(source: Source) -> None:
    """Raises ValueError for damaged files, and for a class that is no tokenizer: transformers would have any class of its own load the folder."""
    if source.folder is None:
        with _foreign(source):
            named = {TOKENIZER_FILES[0]: get_tokenizer_config(source.name, **source.options).get("tokenizer_class")}
    else:
        there = [file for file in TOKENIZER_FILES if (source.folder / file).exists()]
        named = {file: json_object(source.folder / file).get("tokenizer_class") for file in there}
    for file, word in named.items():
        kind = getattr(transformers, word, PreTrainedTokenizerBase) if isinstance(word, str) else None
        if word is not None and not (isinstance(kind, type) and issubclass(kind, PreTrainedTokenizerBase)):
            raise ValueError(f"{source.place}/{file} names as its tokenizer_class {word!r}, which is no tokenizer; {AGAIN}")


def _dtype(dtype: Any) -> str | torch.dtype:
    word = str(dtype).removeprefix("torch.") if isinstance(dtype, (str, torch.dtype)) else ""
    if word not in ("auto", *DTYPES):
        raise ValueError(f"dtype={shown(dtype)}: give auto or one of {', '.join(DTYPES)}")
    return word if word == "auto" else getattr(torch, word)


def _bitsandbytes(quantization: str) -> BitsAndBytesConfig:
    if quantization not in ("8bit", "4bit"):
        raise ValueError(f"quantization={quantization!r}: give 8bit, 4bit or null")
    if find_spec("bitsandbytes") is None or find_spec("accelerate") is None:
        raise ValueError(f"quantization={quantization} needs bitsandbytes and accelerate: pip install -e '.[quantized]'")
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)  # the default picks columns by looking at all rows
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")


@contextmanager
def _in_one_line(what: str, name: Any) -> Iterator[None]:
    """Says of which model a line is; that of an unknown embedded name says it already."""
    if isinstance(name, str):
        resolve_name(name)
    try:
        yield
    except (ValueError, OSError) as error:
        told = repr(str(name)) if isinstance(name, (str, PathLike)) else shown(name)
        raise ValueError(f"{what} {told} could not be loaded: {' '.join(str(error).split())}") from error


@contextmanager
def _foreign(source: Source, data: Sequence[str] = ()) -> Iterator[None]:
    """Whatever transformers raises for files of others becomes a ValueError of one line; only a lack of memory stays what it is.

    `data`: patterns of files of which a folder should have one.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # damaged files can make the libraries that read them raise anything
        text = " ".join(str(error).split())
        if "trust_remote_code" in text:
            reason = OWN_CODE
        elif "use_safetensors" in text:
            reason = PICKLED
        elif source.folder is None and source.options.get("local_files_only") and isinstance(error, OSError):
            reason = UNREACHABLE if "JSON" not in text else f"a file of it that was downloaded before is damaged: {text}"
        elif source.folder is not None and data and not any(any(source.folder.glob(pattern)) for pattern in data):
            reason = f"{source.folder} holds no tokenizer ({data[0]}); copy it from the model"
        else:
            kind = "" if isinstance(error, (OSError, ImportError)) else f"{type(error).__name__}: "
            reason = f"transformers cannot read {source.place}: {kind}{text if len(text) <= 300 else f'{text[:297]}...'}"
        raise ValueError(reason) from error


@contextmanager
def _without_report() -> Iterator[None]:
    """Keeps back what transformers prints of missing and unknown weights: `_check_weights` says it in one line."""
    log = logging.getLogger("transformers.modeling_utils")

    def other(record: logging.LogRecord) -> bool:
        return not any(words in record.getMessage() for words in ("LOAD REPORT", "checkpoint seem corrupted"))

    log.addFilter(other)
    try:
        yield
    finally:
        log.removeFilter(other)
