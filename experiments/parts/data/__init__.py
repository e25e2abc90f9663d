"""Where prompts come from (`conf/data/`) and how a row becomes one.

Imports what `parts` may import.
"""
