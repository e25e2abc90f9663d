"""The benchmark on a GPU, in stages and within a time budget: `draftproof bench +experiment=gpu`.

Imports the other files of `bench`.
"""
