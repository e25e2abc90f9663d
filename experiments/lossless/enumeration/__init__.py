"""Small table models whose every outcome can be followed, so that a distribution is known exactly.

Imports no other folder of `lossless`.
"""
