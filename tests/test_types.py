"""What is public says what it takes, every parameter of it has a type; and a function is a page at most."""

import ast
import functools
from pathlib import Path

import pytest

import metajax

ROOT = Path(metajax.__file__).parent.parent
PAGE = 60  # lines of a function, its docstring among them


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
  """{path: text} of the library and the commands."""
  paths = sorted(path for room in ("metajax", "experiments") for path in (ROOT / room).rglob("*.py"))
  return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def is_public(path):
  return not Path(path).name.startswith("_") or "__init__" in path


def test_every_parameter_of_a_public_function_has_a_type():
  found = {path: list(untyped(text)) for path, text in sources().items() if is_public(path)}
  assert {path: missing for path, missing in found.items() if missing} == {}


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
  assert [f"{path}: {name}" for path, text in sources().items() for name in long_functions(text)] == []


def test_a_long_function_is_found():
  page, more = "  def g():\n" + (PAGE - 1) * "    ...\n", "  async def h():\n" + PAGE * "    ...\n"
  assert list(long_functions("class A:\n" + page)) == []
  assert list(long_functions("class A:\n" + page + more)) == ["h"]
