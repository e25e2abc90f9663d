"""Models that are made ready once and kept in the user's cache folder: small published ones by a name of ours, and GGUF files of one's own."""

from spec.converted.kept import MADE, kept_folder
from spec.converted.named import check_name, fetched, folder_of
from spec.converted.published import PUBLISHED
from spec.converted.states import State, states

__all__ = ["MADE", "PUBLISHED", "State", "check_name", "fetched", "folder_of", "kept_folder", "states"]
