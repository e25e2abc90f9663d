"""Synthetic rows as long as real vocabularies, where float32 distributions no longer sum to 1 by themselves.

Imports what `lossless` may import.
"""
