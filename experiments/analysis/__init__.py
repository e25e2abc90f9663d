"""From records to figures: pure functions, frames, and tables for a terminal. Nothing here decodes.

Imports `recording`.
"""
