"""The wheel in an empty environment: help, a training of ten steps, and predictions."""

import os
import re
import subprocess
import sys
from pathlib import Path

import built_wheel
import photo_folders
import pytest

ROOT = Path(__file__).resolve().parent.parent
(TRAINING,) = re.findall(
  r"```python\n(import optax\n\nimport metajax.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
)


@pytest.mark.slow
def test_the_wheel_installs_trains_and_predicts_in_an_empty_environment(tmp_path):
  (tmp_path / "source").mkdir()
  wheel = built_wheel.build(tmp_path / "source")
  environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}

  def run(*command, limit=300):
    how = {"cwd": tmp_path, "env": environment | {"JAX_PLATFORMS": "cpu"}, "capture_output": True, "text": True}
    done = subprocess.run([str(part) for part in command], **how, timeout=limit)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout

  run(sys.executable, "-m", "venv", "empty")
  pip = ["empty/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
  run(*pip, "--constraint", ROOT / "constraints.txt", wheel, limit=500)
  assert "predict" in run("empty/bin/metajax", "--help")
  photo_folders.draw(tmp_path)
  training = TRAINING.replace("steps=1000", "steps=10").replace("size=84", "size=16")
  labeled = run("empty/bin/python", "-c", training)
  assert labeled.count("new_photos/") == 3
  given = ["--support", "my_classes", "--images", "new_photos", "--output", "labels.csv"]
  assert "labels.csv (3 images" in run("empty/bin/metajax", "predict", "my_model", *given)
  rows = (tmp_path / "labels.csv").read_text().splitlines()[1:]
  said = [line.split(" ", 1)[1].rsplit(" ", 1)[0] for line in labeled.splitlines() if line.startswith("new_photos/")]
  assert [row.split(",")[1] for row in rows] == said  # the same labels by the command and in Python
