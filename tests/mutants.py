"""Small wrong changes of the code, each with the tests that must notice it: a claim that matters has a mutant here.

    python -m tests.mutants              # `make mutants`: all of them
    python -m tests.mutants relu --jobs 1    # those whose claim holds a word, one after the other

Each is put into a temporary copy of the project, in which its tests run until one fails. A mutant that survives is a
claim that no test makes.
"""

import argparse
import concurrent.futures
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
KILLED, SURVIVED = 1, 0  # what pytest ends with where a test fails, and where none does


class Mutant(NamedTuple):
  """A wrong change.

  Attributes:
    claim: what the code does that this one does not.
    file: it is in, from the project's root.
    old: its text, once in the file.
    new: what stands there instead.
    tests: files or single tests, of which at least one must fail.
  """

  claim: str
  file: str
  old: str
  new: str
  tests: tuple[str, ...]


def mutate(mutant: Mutant, root: Path) -> str:
  """The text of the mutant's file, changed.

  Raises:
    ValueError: if what is to be changed is not there once.
  """
  text = (root / mutant.file).read_text()
  if text.count(mutant.old) != 1:
    raise ValueError(f"expected {mutant.old!r} once in {mutant.file}, got it {text.count(mutant.old)} times")
  return text.replace(mutant.old, mutant.new)


def run_tests(mutant: Mutant, copy: Path) -> subprocess.CompletedProcess:
  """Runs the mutant's tests in a copy of the project, which is as it was afterwards."""
  path, python = copy / mutant.file, [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "-m", "not slow"]
  text, changed = path.read_text(), mutate(mutant, copy)
  path.write_text(changed)
  try:
    return subprocess.run([*python, *mutant.tests], cwd=copy, capture_output=True, text=True, timeout=600)
  finally:
    path.write_text(text)


def copy_project(folder: Path) -> Path:
  """A copy of the files that git knows or would add."""
  listed = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
  )
  for name in filter(None, listed.stdout.decode().split("\0")):
    if (ROOT / name).exists():
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(ROOT / name, folder / name)
  return folder


def main() -> int:
  """Tells of each mutant whether its tests noticed; the number that they did not."""
  from tests.table_of_mutants import MUTANTS

  parser = argparse.ArgumentParser(description="Checks that the tests notice small wrong changes of the code.")
  parser.add_argument("word", nargs="?", default="", help="only mutants whose claim or file holds it")
  parser.add_argument("--jobs", type=int, default=2, help="how many run at a time")
  given = parser.parse_args()
  chosen = [mutant for mutant in MUTANTS if given.word in mutant.claim or given.word in mutant.file]
  began, failures, copies = time.monotonic(), 0, queue.SimpleQueue()
  with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
    for number in range(given.jobs):
      copies.put(copy_project(Path(folder) / str(number)))

    def check(mutant: Mutant):
      copy, start = copies.get(), time.monotonic()
      done = run_tests(mutant, copy)
      copies.put(copy)
      return mutant, done, time.monotonic() - start

    for mutant, done, seconds in pool.map(check, chosen):
      verdict = {KILLED: "killed", SURVIVED: "SURVIVED"}.get(done.returncode, f"NOT TESTED ({done.returncode})")
      print(f"{verdict} in {seconds:.0f} s: {mutant.claim}", flush=True)
      if done.returncode != KILLED:
        failures += 1
        print(f"  {mutant.file}: {mutant.old!r} -> {mutant.new!r}; {' '.join(mutant.tests)}\n{done.stdout[-600:]}")
  print(f"{len(chosen) - failures} of {len(chosen)} mutants killed in {time.monotonic() - began:.0f} s")
  return failures


if __name__ == "__main__":
  sys.exit(min(main(), 1))
