"""The battery's checks, one per file: each takes a `Subject` and returns a `Check`.

Imports `lossless.subject` and `lossless.enumeration`, never the battery.
"""
