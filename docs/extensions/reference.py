"""One reference page for each public package, with a table of its names, made from the docstrings."""

import importlib
import inspect
import re
import typing
from pathlib import Path
from types import ModuleType

PACKAGES = (
  "metajax", "metajax.types", "metajax.learners", "metajax.adapt", "metajax.predictors", "metajax.networks",
  "metajax.compose", "metajax.losses", "metajax.losses.contrastive", "metajax.data", "metajax.augment",
  "metajax.augment.image", "metajax.augment.audio", "metajax.pretexts", "metajax.train", "metajax.evaluate",
  "metajax.checkpoint", "metajax.mesh", "metajax.compiled", "metajax.report", "metajax.inference", "metajax.export",
  "metajax.experiment",
)  # fmt: skip


CODE = re.compile(r"`([^`\n]+)`(\w?)")


def public(module: ModuleType) -> list[str]:
  """The public names of a module: `__all__`, or else what it defines without a leading underscore."""
  if hasattr(module, "__all__"):
    return [name for name in module.__all__ if not name.startswith("__")]
  names = [name for name, value in vars(module).items() if not name.startswith("_") and not inspect.ismodule(value)]
  return [name for name in names if getattr(getattr(module, name), "__module__", module.__name__) == module.__name__]


def documented(module: ModuleType) -> list[str]:
  """The names that a page documents: all public ones but packages, which have a page of their own."""
  return [name for name in public(module) if not inspect.ismodule(getattr(module, name))]


def home(package: str, name: str) -> str:
  """The first package with the same object, where it is documented; `metajax` itself comes last."""
  value = getattr(importlib.import_module(package), name)
  for other in (*PACKAGES[1:], PACKAGES[0]):
    if getattr(importlib.import_module(other), name, None) is value and name in public(importlib.import_module(other)):
      return other
  return package


def page(package: str) -> str:
  """The reference page of a package, in reStructuredText."""
  module = importlib.import_module(package)
  names = documented(module)
  rows = [f"   * - :any:`{name} <{home(package, name)}.{name}>`\n     - {_sentence(module, name)}" for name in names]
  table = [".. list-table::", "   :widths: 30 70", "   :class: names", "", *rows, ""]
  own = [name for name in names if home(package, name) == package]
  members = [f".. auto{_kind(getattr(module, name))}:: {package}.{name}\n" for name in own]
  title = [package, "=" * len(package), "", inspect.getdoc(module) or "", ""]
  return "\n".join([*title, *table, *members])


def _kind(value: object) -> str:
  if inspect.isclass(value):
    return "class"
  return "data" if typing.get_origin(value) or not callable(value) else "function"


def _sentence(module: ModuleType, name: str) -> str:
  value = getattr(module, name)
  first = (inspect.getdoc(value) or "").partition("\n\n")[0] if _kind(value) != "data" else ""
  other = "A type." if typing.get_origin(value) or not isinstance(value, int | float | str | tuple) else "A constant."
  return _escaped(" ".join(first.split())) or other


def _escaped(line: str) -> str:
  """A line with "`Score`s" as reStructuredText wants it, with an escaped space."""
  return CODE.sub(lambda found: f"`{found[1]}`" + (f"\\ {found[2]}" if found[2] else ""), line)


def write(app):
  """Writes the pages, where they have changed."""
  folder = Path(app.srcdir) / "api" / "generated"
  folder.mkdir(parents=True, exist_ok=True)
  for package in PACKAGES:
    path, content = folder / f"{package}.rst", page(package)
    if not path.exists() or path.read_text() != content:
      path.write_text(content)


def formulas(app, what: str, name: str, value: object, options: object, lines: list[str]):
  """Makes an indented formula of a docstring a literal block, as Markdown would."""
  kept, inside = [], False
  for line in lines:
    indented = line.startswith("    ")
    if indented and not inside and kept and not kept[-1] and _last_text(kept)[:1] not in ("", " ", ">"):
      kept += [".. code-block:: text", ""]
      inside = True
    elif line and not indented:
      inside = False
    kept.append(line if inside else _escaped(line))
  lines[:] = kept


def _last_text(lines: list[str]) -> str:
  return next((line for line in reversed(lines) if line), "")


def setup(app):
  """Writes the pages before Sphinx reads any."""
  app.connect("builder-inited", write)
  app.connect("autodoc-process-docstring", formulas, priority=400)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
