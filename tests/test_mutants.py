"""The list of mutants is kept up: what each changes is there, and so are the tests that must notice it."""

from pathlib import Path

import pytest

from tests.mutants import ROOT, Mutant, mutate
from tests.table_of_mutants import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.claim)
def test_a_mutant_changes_code_that_is_there_and_names_tests_that_are(mutant):
  compile(mutate(mutant, ROOT), mutant.file, "exec")
  for test in mutant.tests:
    file, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text() if name else (ROOT / file).exists(), test


def test_claims_are_each_made_once():
  assert len({mutant.claim for mutant in MUTANTS}) == len(MUTANTS)


def test_what_is_not_there_once_is_refused(tmp_path: Path):
  (tmp_path / "code.py").write_text("x = 1\ny = 1\n")
  assert mutate(Mutant("", "code.py", "y = 1", "y = 2", ()), tmp_path) == "x = 1\ny = 2\n"
  for old, times in ((" = 1", 2), ("z", 0)):
    with pytest.raises(ValueError, match=f"once in code.py, got it {times} times"):
      mutate(Mutant("", "code.py", old, "", ()), tmp_path)
