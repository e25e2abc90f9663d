"""Options of `track` and `held_out`, which have no configuration. Imports nothing heavy: they are read before torch is."""

from pathlib import Path

from experiments.parts.door.arguments import Parser


def track_parser() -> Parser:
    parser = Parser("draftproof track", "Writes the W&B runs of recorded runs again, from their own files, tracked before or not.")
    parser.add_argument("paths", nargs="+", type=Path, help="folders of runs or of sweeps")
    parser.add_argument("--recursive", action="store_true", help="every run below the folders, also where a folder is no sweep")
    parser.add_argument("--mode", choices=("auto", "online", "offline"), help="default: as the run was tracked, else auto")
    for name in ("project", "entity", "group"):
        parser.add_argument(f"--{name}", help="default: the run's own")
    return parser


def held_out_parser() -> Parser:
    parser = Parser("draftproof held_out", "The best run of a sweep, on the prompts held out from it.")
    parser.add_argument("sweep", nargs="?", type=Path, help="a sweep's folder; default: the newest")
    return parser
