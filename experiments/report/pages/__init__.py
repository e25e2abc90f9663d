"""Tables of README and docs, made from committed records: `python -m experiments.report.pages`.

Imports what `report` may import.
"""
