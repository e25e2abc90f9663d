"""Tiny random models of every decoder-only architecture of the installed transformers: does ours say what `generate` says, or is it refused?

Imports no other folder of `lossless`.
"""
