"""The same tests for other people's decoding: `python -m experiments.lossless.peers`.

Imports what `lossless` may import.
"""
