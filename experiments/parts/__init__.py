"""What a configuration names, made into objects: a file or folder for each group of `conf/`, and the command line's own rules.

Imports `recording` and `analysis`.
"""
