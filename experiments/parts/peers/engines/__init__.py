"""Other engines as peers: they decode the target's own weights in float32 on the CPU, which a user could do as well.

Imports what `parts` may import. The engines' packages (the extra `peers`) are imported when an engine is made, never before.
"""
