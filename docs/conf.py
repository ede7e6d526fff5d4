"""Configuration of the documentation: `make docs` builds it without a network, with warnings as errors."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
# The docs' own modules, and `experiments`.
sys.path[:0] = [str(DOCS / "extensions"), str(DOCS / "drawings"), str(DOCS.parent)]

project = "metajax"
author = "The metajax authors"
copyright = "the metajax authors"
extensions = [
  "myst_nb",
  "sphinx.ext.autodoc",
  "sphinx.ext.napoleon",
  "sphinx_copybutton",
  "math_ml",
  "reference",
  "pages",
  "drawn",
]
exclude_patterns = ["_build"]

# Pages are Markdown. A tutorial is executed once, and again when its text changes.
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS.parent / ".cache" / "docs")
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

# Docstrings of one sentence, `Args`, `Returns`, `Raises` and `Example`; single backticks hold code.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 90
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = "metajax"
html_static_path = ["_static"]
html_css_files = ["metajax.css"]
html_math_renderer = "mathml"  # browsers draw it: no script, no font from elsewhere
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
  "use_download_button": False,
  "use_fullscreen_button": False,
  "show_toc_level": 2,
  "navbar_persistent": [],  # the search field is in the sidebar
  "logo": {"text": "metajax"},
  "pygments_light_style": "tango",
}
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
