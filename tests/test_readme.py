"""The README's Python runs as it stands."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import optax
import pytest

import metajax
from metajax import few_shot_accuracy, fit, networks
from metajax.data import episodes, from_arrays
from metajax.networks import conv_blocks

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_a_learner_of_ones_own_trains_and_evaluates_in_another_folder(capsys, monkeypatch, tmp_path):
  (block,) = (block for block in BLOCKS if "Learner(" in block)
  code = block.replace("steps=200", "steps=20").replace("tasks=1000", "tasks=50")
  monkeypatch.chdir(tmp_path)
  found = "import importlib.util; print(importlib.util.find_spec('metajax').origin)"
  found = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, timeout=600)
  assert found.stdout.strip() == metajax.__file__, found.stderr
  exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
  mean, _, interval = capsys.readouterr().out.splitlines()[-1].partition(" ± ")
  assert 20 < float(mean) <= 100 and float(interval) > 0


def one_block(*_, num_downsamples=1, **how):
  """What stands for conv4: one of its blocks."""
  return conv_blocks(1, 4, num_downsamples=min(num_downsamples, 1), **how)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_what_a_block_imports_is_there(block):
  imports = [node for node in ast.parse(block).body if isinstance(node, ast.Import | ast.ImportFrom)]
  exec(compile(ast.Module(imports, []), "README.md", "exec"), {})


@pytest.mark.slow
def test_the_other_blocks_run(capsys, monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(networks, "conv4", one_block)
  images = np.random.default_rng(0).integers(0, 256, (200, 12, 12, 1), np.uint8)
  source = from_arrays(images, np.repeat(np.arange(10), 20))
  names = {"images": images, "labels": source.labels, "optax": optax, "fit": fit}
  names["train"] = names["test"] = episodes(source, ways=5, shots=1, queries=2, meta_batch_size=2)
  names |= {"few_shot_accuracy": few_shot_accuracy, "load": lambda name, part: source}
  for block in BLOCKS:
    if "Learner(" not in block and "runs/mine" not in block:  # which the installed wheel runs
      block = block.replace("batches(start=0)", "[next(batches(start=0))]")
      exec(re.sub(r"tasks=\d+\)", "tasks=4)", re.sub(r"(?<!1e-3, )steps=\d+", "steps=2", block)), names)
  assert names["episode"].support.inputs.shape == (16, 5, 12, 12, 1)
  assert re.fullmatch(r"(-?[\d.]+ ± [\d.]+\n){10}", capsys.readouterr().out)
