"""The pages of results and benchmarks, which records make: copies whose links and images are right in the docs."""

from pathlib import Path

PAGES = {"results": "experiments", "benchmarks": "benchmarks"}  # page: folder of its README.md


def page(root: Path, folder: str) -> str:
  """The text of a page, as it must be in `docs/generated`."""
  text = (root / folder / "README.md").read_text("utf-8")
  for name, other in PAGES.items():
    text = text.replace(f"](../{other}/README.md", f"]({name}.md")
  return text.replace("](results/", f"](../../{folder}/results/")


def write(app):
  """Writes the pages, where they have changed."""
  folder = Path(app.srcdir) / "generated"
  folder.mkdir(exist_ok=True)
  for name, source in PAGES.items():
    path, content = folder / f"{name}.md", page(Path(app.srcdir).parent, source)
    if not path.exists() or path.read_text("utf-8") != content:
      path.write_text(content, "utf-8")


def setup(app):
  """Writes the pages before Sphinx reads any."""
  app.connect("builder-inited", write)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
