"""Two small real models with real vocabularies, made from weights that are published as Python packages: `python -m experiments.real_models`."""
