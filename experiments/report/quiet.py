"""What a notebook loads before it imports anything else, `%load_ext experiments.report.quiet`: no red warning heads it where there are no ipywidgets.

tqdm, which the libraries below us import, looks for ipywidgets when it finds itself in a notebook. Without them it draws its bars as text, and our
notebooks show none.
"""

import warnings
from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """Called by IPython."""
    warnings.filterwarnings("ignore", message="IProgress not found")
