"""The README: short, true to the records, and each of its blocks runs alone."""

import re
from pathlib import Path

import one_block
import photo_folders
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_it_has_at_most_200_lines():
  assert len(README.splitlines()) <= 200


def test_its_figures_are_those_of_the_records():
  results = (ROOT / "experiments" / "README.md").read_text("utf-8")
  figures = re.findall(r"[\d.]+ ± [\d.]+", README.split("## Methods")[1])
  assert len(figures) >= 20 and not [figure for figure in figures if figure not in results]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_each_block_runs_alone(block, tmp_path, monkeypatch, capsys):
  photo_folders.draw(tmp_path)
  monkeypatch.chdir(tmp_path)
  one_block.use(monkeypatch)
  small = {"steps=1000": "steps=2", "steps=200": "steps=2", "num_tasks=1000": "num_tasks=16", "size=84": "size=16"}
  small |= {"queries=15": "queries=1", "meta_batch_size=16": "meta_batch_size=2"}
  for long, short in small.items():
    block = block.replace(long, short)
  exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
  said = capsys.readouterr().out
  if "new_photos" in block:
    assert re.fullmatch(r"(new_photos/\d\.png class \d \d\.\d\d\n){3}", said[said.index("new_photos") :]), said
  else:
    assert re.search(r"\d+\.\d+ ± \d+\.\d+", said)
