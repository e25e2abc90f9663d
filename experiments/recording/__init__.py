"""What a run leaves on disk, under which circumstances, and reading it again.

Imports nothing of ours, `spec` included; every room may import it.
"""
