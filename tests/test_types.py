"""What is public says what it takes, every parameter of it has a type; and a function is a page at most."""

import ast
import functools
from pathlib import Path

import pytest

import metajax

ROOT = Path(metajax.__file__).parent
PAGE = 60  # lines of a function, its docstring among them
LONGER = {  # functions that are to be split yet: none may be added
  "experiments/clip.py: main",
  "experiments/evaluate.py: main",
  "experiments/generative_pictures.py: image_gpt",
  "experiments/one_shot.py: main",
  "experiments/pretext.py: method",
  "experiments/reweighting.py: main",
  "experiments/runs.py: train",
  "experiments/sinusoid.py: main",
  "metajax/data/sources.py: load",
  "metajax/data/video.py: load_recordings",
  "metajax/mesh/tasks.py: mean_over_tasks",
  "metajax/report/page.py: page",
  "metajax/train/fit.py: fit",
}
UNTYPED = {  # rooms' files whose public functions are to be annotated yet: none may be added
  "data/arrays.py",
  "data/audio.py",
  "data/cache.py",
  "data/captions.py",
  "data/episodes.py",
  "data/files.py",
  "data/folders.py",
  "data/glyphs.py",
  "data/image_text.py",
  "data/images.py",
  "data/moving_glyphs.py",
  "data/omniglot.py",
  "data/one_shot.py",
  "data/own.py",
  "data/own_recordings.py",
  "data/pairs.py",
  "data/palette.py",
  "data/parts.py",
  "data/pictures.py",
  "data/pillow.py",
  "data/preprocess.py",
  "data/recordings.py",
  "data/records.py",
  "data/rows.py",
  "data/sources.py",
  "data/tables.py",
  "data/texts.py",
  "data/verified.py",
  "data/video.py",
  "evaluate/features.py",
  "losses/sigmoid_of_towers.py",
  "losses/softmax_of_rows.py",
  "losses/softmax_of_towers.py",
  "losses/tiles.py",
  "mesh/devices.py",
  "mesh/rows.py",
  "report/drawing.py",
  "report/figures.py",
  "report/ranking.py",
  "train/fit.py",
  "train/run.py",
}


def public_functions(tree):
  """The functions, and the methods of classes, whose names all the way up have no leading underscore."""
  for node in tree.body:
    if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
      yield from public_functions(node)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
      yield node


def untyped(source):
  """The public functions that have parameters without a type, and these."""
  for function in public_functions(ast.parse(source)):
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    if missing := [p.arg for p in every if p.annotation is None and p.arg not in ("self", "cls")]:
      yield f"{function.name}({', '.join(missing)})"


@functools.cache
def sources():
  files = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(ROOT.rglob("*.py"))}
  return {path: text for path, text in files.items() if not Path(path).name.startswith("_") or "__init__" in path}


def test_every_parameter_of_a_public_function_has_a_type():
  found = {path: missing for path, text in sources().items() if (missing := list(untyped(text)))}
  assert {path: missing for path, missing in found.items() if path not in UNTYPED} == {}
  assert set(UNTYPED) - set(found) == set(), "these have types now, or are gone: take them off the list"


@pytest.mark.parametrize(
  ("source", "found"),
  [
    ("def f(x): ...", ["f(x)"]),
    ("def f(x: int, *y, z=0, **w): ...", ["f(z, y, w)"]),
    ("async def f(x, /): ...", ["f(x)"]),
    ("class A:\n  def f(self, x): ...", ["f(x)"]),
    ("def f(x: int):\n  def g(y): ...", []),
    ("def _f(x): ...", []),
    ("class _A:\n  def f(self, x): ...", []),
    ("f = lambda x: x", []),
  ],
)
def test_parameters_without_a_type_are_found(source, found):
  assert list(untyped(source)) == found


def long_functions(source):
  """The functions of more than a page, however deep."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= PAGE:
      yield node.name


def test_no_function_is_longer_than_a_page():
  paths = sorted(path for room in ("metajax", "experiments") for path in (ROOT.parent / room).rglob("*.py"))
  found = {f"{path.relative_to(ROOT.parent)}: {name}" for path in paths for name in long_functions(path.read_text())}
  assert found - LONGER == set()
  assert LONGER - found == set(), "these are short now, or are gone: take them off the list"


def test_a_long_function_is_found():
  page, more = "  def g():\n" + (PAGE - 1) * "    ...\n", "  async def h():\n" + PAGE * "    ...\n"
  assert list(long_functions("class A:\n" + page)) == []
  assert list(long_functions("class A:\n" + page + more)) == ["h"]
