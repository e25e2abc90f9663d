"""The same tests for other people's decoding: `draftproof peers`.

Imports what `lossless` may import.
"""
