"""Layers that attend within a window or a chunk of positions: what a configuration says of them, and what a slot there cannot see of another.

A model whose configuration names the type of every layer (`layer_types`) takes a mask for each type, by name, as transformers makes them for
`generate` (`create_masks_for_generate`). Any other takes one mask, and its layers are all alike. Distances are between positions, not between slots
of the cache: siblings of a tree have one position, and slots that were kept from a tree stand where their positions say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from spec.reach import WINDOWED, in_layers, read

CHUNKED = "chunked_attention"
SIZES = {"sliding_attention": ("sliding_window", "sliding_window_size"), CHUNKED: ("attention_chunk_size",)}
ALIKE = ""  # the type of layers that a configuration has no types for


@dataclass(frozen=True)
class Window:
    """The last `size` positions, a token's own among them; if `is_chunked` those of its own chunk. Chunks begin at multiples of `size`."""

    size: int
    is_chunked: bool = False

    def hides(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Whether what stands at positions `keys` [B or 1, width] is out of reach from `queries` [B or 1, N]; [B or 1, N, width]."""
        own, other = queries[:, :, None], keys[:, None, :]
        return own // self.size != other // self.size if self.is_chunked else own - other >= self.size


@dataclass(frozen=True)
class Windows:
    """The window of each type of layers, None for layers that see everything before them. The default is a model whose layers all do."""

    names: tuple[str, ...] = (ALIKE,)
    windows: tuple[Window | None, ...] = (None,)
    is_even: bool = True  # whether all layers of a type have windows of one size; if not, the smallest of each type is given

    @property
    def smallest(self) -> int | None:
        """Up to so many positions all layers see everything; None: at any length."""
        return min((window.size for window in self.windows if window is not None), default=None)

    def beyond(self, num_positions: int) -> "Windows":
        """Those that hide something among the first `num_positions` positions: all of them, or no windows at all."""
        return self if self.smallest is not None and self.smallest < num_positions else NONE

    def by_name(self, masks: Sequence[Any]) -> Any:
        """One mask for each type in the form that a model takes: by name, or the only one as it is."""
        return masks[0] if self.names == (ALIKE,) else dict(zip(self.names, masks, strict=True))


NONE = Windows()


def windows_of(config: Any) -> Windows:
    """The windows of a model's text configuration."""
    types = tuple(dict.fromkeys(read(config, "layer_types", ())))
    if not types:
        slides = read(config, "use_sliding_window", True)
        types = next(((name,) for name in (WINDOWED if slides else WINDOWED[1:]) if any(sizes_of(config, name))), ())
    sizes = {name: sizes_of(config, name) for name in types}
    if not any(map(any, sizes.values())):
        return NONE
    found = (Window(min(filter(None, some)), name == CHUNKED) if any(some) else None for name, some in sizes.items())
    names = types if read(config, "layer_types", ()) else (ALIKE,)
    return Windows(names, tuple(found), all(len(set(some)) < 2 for some in sizes.values()))


def sizes_of(config: Any, layer_type: str) -> list[int | None]:
    """The sizes of the windows that layers of a type have by a configuration: one, or where it says more one for each layer."""
    found = (in_layers(config, name) for name in SIZES.get(layer_type, ()))
    return next((sizes for sizes in found if any(sizes)), [])
