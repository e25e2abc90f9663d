"""Recorded runs as something to read: a table on the terminal, Markdown, or one self-contained HTML page."""
