"""`generate` of transformers over a static cache with a compiled forward: the fastest plain decoding that the library offers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from transformers import CompileConfig, StaticCache

from experiments.parts.peers.transformers_generate import Generate
from experiments.recording.clock import Site
from spec.sampling import Sampler


@dataclass
class StaticGenerate(Generate):
    """Plain `generate` whose keys and values stand in a `StaticCache` and whose forwards behind the prompt are compiled.

    One cache is kept and emptied between calls: `generate` would make one per call, and CUDA graphs be recorded anew for each. The first call
    compiles, which may take minutes; time it apart. `mode` and `backend` are torch.compile's; None: "reduce-overhead", which captures CUDA graphs,
    where there is CUDA. `capacity`: positions in the cache; None: as many as the longest call so far, and a longer one compiles again.
    """

    mode: str | None = None
    backend: str = "inductor"
    capacity: int | None = None
    name = "generate, static and compiled"
    cache: StaticCache | None = field(default=None, init=False)
    shape: tuple[int, int] = field(default=(0, 0), init=False)  # rows and capacity of the cache
    forward: Any = field(default=None, init=False)  # the compiled forward, once there is one

    @property
    def sites(self) -> list[Site]:
        """The compiled forward, whose model must stay untouched, and the prompt's own where the library keeps that apart."""
        prefill = [Site(self.target, "_prefill", "target")] if hasattr(self.target, "_prefill") else []
        return [*prefill, Site(self, "call_compiled", "target")]

    def run(self, rows: list[list[int]], config: Any, sampler: Sampler) -> list[list[int]]:
        needed = max(map(len, rows)) + config.max_new_tokens
        shape = len(rows), max(needed, self.capacity or 0)
        if self.cache is None or self.shape != shape:
            self.shape, self.capacity = shape, shape[1]
            self.cache = StaticCache(config=self.target.config, max_cache_len=shape[1])
        self.cache.reset()
        return super().run(rows, config, sampler)

    def settings(self) -> dict[str, Any]:
        mode = self.mode or ("reduce-overhead" if self.target.device.type == "cuda" else "default")
        compiled = CompileConfig(mode=mode, backend=self.backend)
        compiled._compile_all_devices = True  # pyright: ignore[reportAttributeAccessIssue]  on a CPU too
        return {"compile_config": compiled}

    def arguments(self) -> dict[str, Any]:
        return {"past_key_values": self.cache}

    @contextmanager
    def counting(self) -> Iterator[list[int]]:
        """Compiled forwards, counted from outside, since a hook would be compiled with the model; the prompt's own forward is one more."""
        count, compile_call = [0], self.target.get_compiled_call

        def get_compiled_call(config: Any) -> Any:
            if self.forward is None:
                self.forward = compile_call(config)
            count[0] += 1

            def call(*args: Any, **kwargs: Any) -> Any:
                count[0] += 1
                return self.call_compiled(*args, **kwargs)

            return call

        self.target.get_compiled_call = get_compiled_call
        try:
            yield count
        finally:
            del self.target.get_compiled_call

    def call_compiled(self, *args: Any, **kwargs: Any) -> Any:
        """One compiled forward."""
        return self.forward(*args, **kwargs)
