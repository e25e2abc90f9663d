"""Weights kept in 16 bits under float32 arithmetic: the numbers of a 16-bit checkpoint, for half of the memory and of its traffic."""

from spec.native import NoKernel, kernel
from spec.store.keep import STORES, as_float32, check_store, store_of, stored
from spec.store.modules import StoredEmbedding, StoredLinear
from spec.store.product import widened_linear, widened_linears

__all__ = [
    "STORES",
    "NoKernel",
    "StoredEmbedding",
    "StoredLinear",
    "as_float32",
    "check_store",
    "kernel",
    "store_of",
    "stored",
    "widened_linear",
    "widened_linears",
]
