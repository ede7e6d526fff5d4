"""A reader gets from a command to the gradient of its inner loop through few frames, each of a name of its own."""

import importlib
import re
import sys
import traceback
from pathlib import Path

import pytest

from experiments import maml
from metajax.experiment import main

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
  "preset": "paper",
  "filters": 2,
  "tasks": 2,
  "queries": 1,
  "steps": 2,
  "size": 16,
  "devices": 1,
  "test-tasks": 2,
}


class Reached(Exception):
  """The frames of the project from the command to the inner gradient."""


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
  def inner_gradient(*_):
    stack = [frame for frame in traceback.extract_stack()[:-1] if Path(frame.filename).is_relative_to(ROOT / "metajax")]
    if any(frame.name == "train_step" for frame in stack):
      raise Reached([(frame.name, Path(frame.filename).relative_to(ROOT).as_posix()) for frame in stack])
    return value_and_grad(*_)

  with pytest.MonkeyPatch.context() as patch, pytest.raises(Reached) as reached:
    module = importlib.import_module("metajax.adapt.gradient_steps")
    value_and_grad = module.mixed_value_and_grad
    patch.setattr(module, "mixed_value_and_grad", inner_gradient)
    folder = tmp_path_factory.mktemp("frames") / "run"
    patch.setattr(sys, "argv", ["maml", *(f"--{name}={value}" for name, value in SMALL.items()), f"--folder={folder}"])
    main(maml.build, maml.PRESETS)
  return reached.value.args[0]


def test_from_a_command_to_the_inner_gradient_there_are_a_dozen_frames_each_named_once(frames):
  assert frames[0] == ("main", "metajax/experiment/driver.py") and frames[-1][0] == "_inner_step"
  assert len(frames) <= 12, frames
  assert len(dict(frames)) == len(frames), frames


def test_the_docs_have_them_in_their_order(frames):
  text = (ROOT / "docs/explanations/one_step.md").read_text("utf-8")
  assert re.findall(r"^\| `(\w+)` \| `(metajax/[^`]*)`", text, re.MULTILINE) == frames
