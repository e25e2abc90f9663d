"""Training of the models that come with the package: `draftproof train` makes the embedded pair.

Imports `parts`.
"""
