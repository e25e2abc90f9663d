"""Settings of the site. `make docs` builds it into build/docs; nothing is fetched."""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from draftproof import __version__  # noqa: E402

project, author, version, release = "Draftproof", "The Draftproof authors", __version__, __version__
project_copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["pictures"]
html_theme = "furo"
html_title = f"Draftproof {__version__}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
default_role = "code"
myst_enable_extensions = ["attrs_block", "attrs_inline", "dollarmath"]
myst_heading_anchors = 3
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
nitpicky = False  # annotations name torch's and transformers' types, which are documented elsewhere

PICTURE = re.compile(r'<picture>.*?srcset="([^"]+)".*?<img alt="([^"]*)" src="([^"]+)".*?</picture>', re.DOTALL)
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")  # a link to a file of the repository, which is no page
RAISES = re.compile(r"(?:^|(?<=\. )|(?<=\.\n))Raises (.+?\.)(?:\s+(?=[A-Z`])|\s*$)", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r"^    ([a-z]\w*): [^#\n]+?  # (.+)$", re.MULTILINE)
ARGUMENT = re.compile(r"^(\w+): (?=.+(?:\n\w+: |\Z))", re.MULTILINE)  # a line per argument at the end of a docstring


def read(app: Any, page: str, source: list[str]) -> None:
    """Pictures for light and dark pages as the theme has them, which follow the reader's switch. Links that leave the folder become plain text."""
    source[0] = OUTSIDE.sub(r"\1", source[0])
    source[0] = PICTURE.sub(lambda found: f"![{found[2]}]({found[3]}){{.only-light}}\n![{found[2]}]({found[1]}){{.only-dark}}", source[0])


def docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Errors stand in a paragraph of their own, arguments in a list, and so do a class's fields with the comments behind them: shapes and units."""
    text = "\n".join(lines).strip()
    if what != "module":
        text = RAISES.sub(lambda found: f"\n\n**Raises** {' '.join(found[1].split())}\n\n", text)
        text = ARGUMENT.sub(r"- ``\1``: ", text)
    if what == "class":
        text += "\n\n" + "\n".join(f"- ``{field}``: {' '.join(about.split())}" for field, about in FIELD.findall(inspect.getsource(thing)))
    lines[:] = [*text.split("\n"), ""]


def setup(app: Any) -> None:
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", docstring)
