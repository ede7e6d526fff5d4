"""Every example of a docstring is run, and the functions that are used most have one."""

import ast
import doctest
import io

import pytest
from test_types import sources

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def found(text):
  """(name, docstring, line) of each function and class of a file with an example."""
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ">>>" in (ast.get_docstring(node) or ""):
      yield getattr(node, "name", "module"), ast.get_docstring(node), getattr(node, "lineno", 0)


EXAMPLES = {f"{path}:{name}": (text, line) for path, source in sources().items() for name, text, line in found(source)}


def run(name, text, line):
  """What the examples of a docstring print that they should not; nothing if all is well."""
  test = doctest.DocTestParser().get_doctest(text, {}, name, name.partition(":")[0], line)
  said = io.StringIO()
  doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.write)
  return said.getvalue()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_its_docstring_shows(name):
  said = run(name, *EXAMPLES[name])
  assert not said, said


def test_fifty_functions_have_an_example():
  assert len(EXAMPLES) >= 70  # of which `make test` runs fifty


def test_an_example_that_is_wrong_is_found():
  assert "Expected:\n    3" in run("here:one", ">>> 1 + 1\n3\n", 1) and not run("here:one", ">>> 1 + 1\n2\n", 1)
