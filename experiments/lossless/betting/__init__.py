"""Bets on the tokens of a text: capital that grows only if the text does not follow the distribution it is said to follow, however often one looks.

Imports no other folder of `lossless`.
"""
