"""Options of `proofs`, which has no configuration. Imports nothing heavy: they are read before torch is."""

from pathlib import Path

from experiments.parts.door.arguments import Parser


def proofs_parser() -> Parser:
    parser = Parser("draftproof proofs", "Keeps verdicts of the battery with the package, or lists those that are kept.")
    parser.add_argument("paths", nargs="*", type=Path, help="folders or files of draftproof lossless")
    parser.add_argument("--into", type=Path, help="where they are kept; default: with the package")
    return parser
