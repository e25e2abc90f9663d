"""Recorded runs as tables, Markdown, figures or one HTML page: `draftproof report`, `.report.pages`, the notebooks.

On the top floor: it may read every room, and nobody imports it.
"""
