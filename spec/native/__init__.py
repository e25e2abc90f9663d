"""Code for the processor itself, in plain C++: products with weights in 16 bits, and whole forwards over few slots. Built when it is first wanted."""

from spec.native.build import Kernel, NoKernel, cache_folder, kernel
from spec.native.bypass import bypasses

__all__ = ["Kernel", "NoKernel", "bypasses", "cache_folder", "kernel"]
