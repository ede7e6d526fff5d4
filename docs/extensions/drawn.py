"""The directive `drawing`: an image made by a script of `drawings/`, for light and for dark pages.

```{drawing} episode
A task of three ways and two shots.
```
"""

import importlib.util
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive

THEMES = ("light", "dark")


class Drawing(Directive):
  """Shows a drawing; the content is its caption, and its description for those who cannot see it."""

  required_arguments = 1
  has_content = True

  def run(self) -> list[nodes.Node]:
    """Returns a figure of two images, of which a page shows one."""
    figure = nodes.figure(classes=["drawing"])
    caption = " ".join(self.content)
    for theme in THEMES:
      uri = f"/_static/drawings/{self.arguments[0]}-{theme}.svg"
      figure += nodes.image(uri=uri, alt=caption, classes=[f"only-{theme}"])
    text, _ = self.state.inline_text(caption, self.lineno)
    figure += nodes.caption(caption, "", *text)
    return [figure]


def draw(app):
  """Runs the scripts whose images are missing or older than they are."""
  folder = Path(app.srcdir) / "_static" / "drawings"
  folder.mkdir(parents=True, exist_ok=True)
  for script in sorted((Path(app.srcdir) / "drawings").glob("[!_]*.py")):
    for theme in THEMES:
      path = folder / f"{script.stem}-{theme}.svg"
      if not path.exists() or path.stat().st_mtime < script.stat().st_mtime:
        _module(script).draw(path, dark=theme == "dark")


def _module(script: Path):
  spec = importlib.util.spec_from_file_location(script.stem, script)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def setup(app):
  """Draws before Sphinx looks for images."""
  app.add_directive("drawing", Drawing)
  app.connect("builder-inited", draw)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
