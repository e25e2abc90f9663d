"""`python -m experiments.report [FOLDER ...] [--html FILE] [--markdown FILE]`: recorded runs as a table, as Markdown, or as one HTML page.

`--table terminal` or `--table markdown` prints the comparison of the runs alone, `--categories` adds a table of their categories.
`--picture BASE` and `--answer-picture BASE` write BASE-light.svg and BASE-dark.svg, for a README.

Exit codes: 0 done, 2 there is nothing to report or a file cannot be read or written, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from experiments.parts.door.enter import enter

if __name__ == "__main__":
    enter("report")
