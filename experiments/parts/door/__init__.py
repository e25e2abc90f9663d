"""The way in: what stands on a command line is read and checked here, without torch, and answered in one line where it is wrong.

Imports `recording` and nothing else of ours; the rest of `parts` and every command import it.
"""
