"""WRONG CODE, on purpose: verifiers, drafters and loops that are each wrong in one way. The battery must reject every one of them.

Only the battery, the tests and the notebooks import this; nothing that decodes for a user may.
"""
