"""The documentation: its links lead somewhere, its blocks run, and the reference has every public name."""

import ast
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import metajax

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
WRITTEN = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "generated"} & set(path.relative_to(DOCS).parts))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")] + WRITTEN
GENERATED = {DOCS / "generated" / f"{name}.md" for name in ("results", "benchmarks")}
NOT_PUBLIC = {
  "metajax.checks",
  "metajax.cli",
  "metajax.paths",
  "metajax.version",
}  # and _names


@pytest.fixture(scope="module")
def reference():
  """The extension that writes the reference."""
  spec = importlib.util.spec_from_file_location("reference", DOCS / "extensions" / "reference.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def named(path):
  return str(path.relative_to(ROOT))


def blocks(path):
  """The Python of a page: blocks of a README or a how-to, cells of a tutorial."""
  options = r"(?:---\n.*?---\n|:[\w-]+:.*?\n)*"
  fences = re.compile(rf"^```(?:python|{{code-cell}}.*?)\n{options}(.*?)^```", re.DOTALL | re.MULTILINE)
  return fences.findall(path.read_text("utf-8"))


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_to_files(path):
  text = re.sub(r"^```[^\n]+\n.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
  for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
    if not re.match(r"[a-z]+:", target):
      there = (path.parent / target).resolve()
      assert there.exists() or there in GENERATED, f"{named(path)}: {target}"


def test_every_page_is_in_the_table_of_contents():
  listed = "\n".join(path.read_text("utf-8") for path in WRITTEN)
  for path in WRITTEN:
    name = path.relative_to(DOCS).with_suffix("").as_posix()
    assert name == "index" or re.search(rf"^(?:.*<)?/?{name}>?$|^{name.partition('/')[0]}/\*$", listed, re.M), name


@pytest.mark.parametrize("path", WRITTEN, ids=named)
def test_what_a_page_imports_is_there(path):
  for block in blocks(path):
    lines = "\n".join(line for line in block.splitlines() if not line.startswith(("%", "!")))
    imports = [node for node in ast.walk(ast.parse(lines)) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in imports:
      for module in [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]:
        if module.partition(".")[0] in ("metajax", "experiments"):
          found = importlib.import_module(module)
          names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
          assert all(hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}") for name in names)


def packages():
  """The public packages: those with `__all__`."""
  names = [found.name for found in pkgutil.walk_packages(metajax.__path__, "metajax.") if found.ispkg]
  public = [name for name in names if not any(part.startswith("_") for part in name.split("."))]
  return ["metajax", *(name for name in public if hasattr(importlib.import_module(name), "__all__"))]


def test_the_reference_has_every_public_name(reference):
  # `data` and `experiment` have what is public in these.
  inner = {"metajax.data.builtin.glyphs", "metajax.experiment.evaluators"}
  assert set(packages()) - NOT_PUBLIC - inner <= set(reference.PACKAGES)
  for package in reference.PACKAGES:
    for name in reference.documented(importlib.import_module(package)):
      home = reference.home(package, name)
      assert home in reference.PACKAGES
      assert re.search(rf"^\.\. auto\w+:: {re.escape(home)}\.{name}$", reference.page(home), re.M), f"{package}.{name}"


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in WRITTEN if path.parent.name == "coming_from"], ids=named)
def test_examples_for_those_who_come_from_other_libraries_run(path, tmp_path):
  for block in blocks(path):
    if re.search(r"^(import|from) (torch|learn2learn|higher|torchopt|lightly|open_clip)\b", block, re.M):
      continue
    command = [sys.executable, "-c", block]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
