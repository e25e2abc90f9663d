"""The benchmark on a GPU, in stages and within a time budget: `python -m experiments.bench +experiment=gpu`.

Imports the other files of `bench`.
"""
