"""A transformers model as OpenVINO's own pipelines read it: a graph with keys and values as its state, traced from the model's own forward.

This is what optimum-intel would make, without its older transformers. The front end is called directly: `openvino.convert_model` reports to its
maker over the network. Keys and values come in as tensors of known head counts: without them the pipeline with pages, which the drafting methods
need, cannot be made from the graph.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from experiments.parts.peers.engines.engine import check_trial, imported, shell_of, trial_tokens
from spec.lean import Lean

NAMES = ("input_ids", "attention_mask", "position_ids")
FILE, TOKENIZER = "openvino_model.xml", "openvino_tokenizer.xml"


def pinned(threads: int) -> dict[str, Any]:
    """Properties without which OpenVINO would choose the precision of products and of the cache by itself."""
    return {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "INFERENCE_NUM_THREADS": threads}


class Forward(nn.Module):
    """One forward behind a past that comes in and goes out as tensors."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = shell_of(model)
        self.model.set_attn_implementation("sdpa")

    def forward(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, past: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        """ids and positions [B, N], mask [B, S + N], past keys and values [B, heads, S, D] -> logits [B, N, V], then keys and values."""
        cache, layers = DynamicCache(), [layer_of(*pair) for pair in past]
        cache.layers = [*layers]
        num_new, width = input_ids.shape[1], attention_mask.shape[1]
        seen = torch.arange(width)[None] <= (torch.arange(num_new) + width - num_new)[:, None]
        seen = seen[None, None] & attention_mask[:, None, None].bool()
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        made = self.model(input_ids=input_ids, attention_mask=mask, position_ids=position_ids, past_key_values=cache, use_cache=True)
        return (made.logits, *(part for layer in layers for part in (layer.keys, layer.values)))


def layer_of(keys: Tensor, values: Tensor) -> Any:
    layer: Any = DynamicLayer()
    layer.keys, layer.values, layer.dtype, layer.device, layer.is_initialized = keys, values, keys.dtype, keys.device, True
    return layer


def convert(model: Any, folder: Path) -> None:
    """Writes the model and a tokenizer into the folder. Raises ValueError where the converted model is another."""
    ov, parts = imported("openvino"), Lean(model)
    shapes = [(layer.num_groups, layer.attention.head_dim) for layer in parts.layers]
    graph = traced(model, shapes)
    name_ends(graph)
    make_stateful(graph, shapes)
    ov.save_model(graph, folder / FILE, compress_to_fp16=False)
    ov.save_model(placeholder_tokenizer(), folder / TOKENIZER, compress_to_fp16=False)
    check_trial(model, logits_of(folder, trial_tokens(model).numpy()), "openvino")


def traced(model: Any, shapes: list[tuple[int, int]]) -> Any:
    """The graph of `Forward`, its ends not named yet; `shapes`: key heads and head size of every layer."""
    past = [(torch.zeros(2, heads, 3, size), torch.zeros(2, heads, 3, size)) for heads, size in shapes]
    example = {"input_ids": torch.ones(2, 2, dtype=torch.int64), "attention_mask": torch.ones(2, 5, dtype=torch.int64)}
    example |= {"position_ids": torch.tensor([[3, 4]] * 2), "past": past}
    front = imported("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
    with quiet(), torch.no_grad():
        decoders = imported("openvino.frontend.pytorch.ts_decoder")
        decoder = decoders.TorchScriptPythonDecoder(Forward(model), example_input=example)  # must live until the graph is made
        graph = front.convert(front.load(decoder))
    for place, end in enumerate(graph.inputs[len(NAMES) :]):
        heads, size = shapes[place // 2]
        end.get_node().set_partial_shape(imported("openvino").PartialShape([-1, heads, -1, size]))
    graph.validate_nodes_and_infer_types()
    imported("openvino._offline_transformations").apply_moc_transformations(graph, cf=False, smart_reshape=True)
    return graph


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what torch and transformers say of tracing: it is deprecated, and it looks at everything."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def end_name(kind: str, place: int) -> str:
    return f"{kind}.{place // 2}.{('key', 'value')[place % 2]}"


def name_ends(graph: Any) -> None:
    """Gives inputs and outputs the names that the pipelines look for."""
    for place, end in enumerate(graph.inputs):
        end.get_tensor().set_names({NAMES[place] if place < len(NAMES) else end_name("past_key_values", place - len(NAMES))})
    for place, end in enumerate(graph.outputs):
        end.get_tensor().set_names({"logits" if place == 0 else end_name("present", place - 1)})


def make_stateful(graph: Any, shapes: list[tuple[int, int]]) -> None:
    """Past and present become one state, in the order of rows that `beam_idx` says, empty for a start."""
    ops = imported("openvino.opset13")
    order = ops.parameter([-1], np.int32, name="beam_idx")
    order.output(0).get_tensor().set_names({"beam_idx"})
    for end in graph.inputs[len(NAMES) :]:
        readers = end.get_target_inputs()
        arranged = ops.gather(end, order, ops.constant(0))
        for reader in readers:
            reader.replace_source_output(arranged.output(0))
    graph.add_parameters([order])
    num_rows = ops.gather(ops.shape_of(graph.input("input_ids"), output_type="i64"), ops.constant([0]), ops.constant(0))
    states = {end_name("past_key_values", place): end_name("present", place) for place in range(2 * len(shapes))}
    imported("openvino._offline_transformations").apply_make_stateful_transformation(graph, states)
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue":
            _, heads, _, size = node.get_output_partial_shape(0)
            shape = ops.concat([num_rows, ops.constant(np.array([heads.get_length(), 0, size.get_length()], np.int64))], 0)
            node.set_arguments([ops.broadcast(ops.constant(np.float32(0)), shape)])
    graph.validate_nodes_and_infer_types()


def placeholder_tokenizer() -> Any:
    """Bytes as ids: the pipelines compare the tokenizers of two models, and take ids from us."""
    ov, ops = imported("openvino"), imported("openvino.opset15")
    text = ops.parameter([-1], ov.Type.string, name="string_input")
    ids = ops.unsqueeze(ops.convert(ops.string_tensor_unpack(text).output(2), "i64"), ops.constant(0))
    mask = ops.broadcast(ops.constant(np.int64(1)), ops.shape_of(ids))
    for node, name in ((text, "string_input"), (ids, "input_ids"), (mask, "attention_mask")):
        node.output(0).get_tensor().set_names({name})
    return ov.Model([ids.output(0), mask.output(0)], [text], "tokenizer")


def logits_of(folder: Path, ids: np.ndarray) -> np.ndarray:
    """Logits [1, N, V] of ids [1, N] by a converted model; all but the last token first, so that its state is read as well."""
    request, parts, end = imported("openvino").Core().compile_model(folder / FILE, "CPU", pinned(1)).create_infer_request(), [], ids.shape[1]
    for start, stop in ((0, end - 1), (end - 1, end)):
        places = np.arange(start, stop, dtype=np.int64)[None]
        inputs = (ids[:, start:stop], np.ones((1, stop), np.int64), places, np.zeros(1, np.int32))
        parts.append(request.infer(dict(zip((*NAMES, "beam_idx"), inputs, strict=True)))["logits"].copy())
    return np.concatenate(parts, 1)
