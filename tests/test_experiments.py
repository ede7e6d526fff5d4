"""The commands: what they do at their smallest, and one clear line for bad input, with nothing written."""

import functools
import json
import re
import shutil
import sys

import commands
import drawn_by_numpy
import few_programs
import jax
import numpy as np
import one_block
import optax
import pytest
import table_of_learners as learners
from PIL import Image
from table_of_learners import convolutional

from experiments import (
  anil,
  cavia,
  evaluate,
  imaml,
  maml,
  maml_plus_plus,
  matching,
  meta_sgd,
  one_shot,
  proto_maml,
  prototypical,
  r2d2,
  relation,
  reptile,
  siamese,
  sinusoid,
  supervised,
  triplet,
)
from experiments.families import data
from experiments.families.few_shot import adapted
from experiments.families.few_shot import experiment as few_shot
from experiments.families.few_shot import tasks as few_shot_tasks
from experiments.families.few_shot.networks import Adapted
from metajax import gradient_steps
from metajax.data import episodes, from_arrays
from metajax.experiment import Record, driver, records
from metajax.experiment.evaluators import few_shot as few_shot_scores
from metajax.learners import maml as maml_learner
from metajax.report import drawing

FEW_SHOT = (
  maml,
  meta_sgd,
  maml_plus_plus,
  imaml,
  cavia,
  proto_maml,
  anil,
  reptile,
  r2d2,
  supervised,
  prototypical,
  siamese,
  triplet,
  matching,
  relation,
)
TINY = ["--preset", "paper", "--filters", "4", "--tasks", "2", "--queries", "2", "--test-queries", "2",
        "--test-tasks", "6", "--validation-tasks", "6", "--steps", "2", "--validate-every", "1", "--size", "16",
        "--devices", "1"]  # fmt: skip


def synthetic_set(name, split="train", *, size=28, download=False, rotations=False, skip_unreadable=False, **kept):
  """Ten classes of six images: what `load` gives, without drawing or reading anything."""
  seed = ("train", "validation", "test").index(split)
  images = np.random.default_rng(seed).integers(0, 256, (60, size, size, 1), np.uint8)
  return from_arrays(images, np.repeat(np.arange(10), 6), classes=[f"{split} {k}" for k in range(10)])


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
  """Runs a command in a folder of its own: (its standard output, its standard error, the files it wrote)."""
  monkeypatch.setattr(records, "home", lambda command: tmp_path / "experiments")
  one_block.use(monkeypatch)

  def run(module, *arguments):
    where = [] if "--folder" in arguments or module in (evaluate, one_shot) else ["--output", str(tmp_path / "runs")]
    main = functools.partial(commands.run_command, module)
    status, out, error = commands.run(monkeypatch, capsys, module.__name__, main, *arguments, *where)
    kept = lambda path: path.is_file() and "checkpoints" not in path.parts and "tfevents" not in path.name
    return status, out, error, sorted(p.name for p in tmp_path.rglob("*") if kept(p))

  return run


def without_a_page(run, *_):
  (run.folder / "figures").mkdir(exist_ok=True)
  (run.folder / "figures" / "episode.png").write_bytes(b"")
  return run.folder / "figures" / "episode.png"


@pytest.fixture
def no_page(monkeypatch):
  """Runs without their page, which takes longest."""
  monkeypatch.setattr(driver, "write_page", without_a_page)


@pytest.fixture
def no_pipelines(monkeypatch):
  """Runs whose tasks NumPy draws, since TensorFlow's pipelines take longest to build."""
  monkeypatch.setattr(few_shot_tasks, "episodes", drawn_by_numpy.episodes)


def test_a_run_ends_with_its_accuracy_records_and_images(command, monkeypatch):
  monkeypatch.setattr(drawing, "DOTS_PER_INCH", 32)
  monkeypatch.setattr(data, "load", synthetic_set)
  flags = ["--batch-size", "4", "--test", "3w1s", "--devices", "2"]
  status, out, error, files = command(siamese, *TINY, *flags, "--record")
  assert status == 0, error
  assert re.search(
    r"siamese \(.*\) +[\d.]+ ± [\d.]+%\n +pixels, nearest centroid +[\d.]+ ± [\d.]+%\n +chance +33.33%", out
  )
  figures = ["confusion.png", "contact_sheet.png", "episode-1.png", "episode.png", "learning_curves.png", "map.png"]
  record = ["comparison.png", "README.md", "siamese-glyphs.json", "siamese-glyphs.png"]
  assert files == sorted([*figures, *record, "index.html", "metrics.jsonl", "records.json", "run.json"])


@pytest.mark.parametrize("page", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_on_tasks_of_variable_ways_says_so_and_is_tested_on_the_same_again(command, monkeypatch, tmp_path, page):
  monkeypatch.setattr(drawing, "DOTS_PER_INCH", 32)
  if not page:
    monkeypatch.setattr(driver, "write_page", without_a_page)
  monkeypatch.setattr(data, "load", synthetic_set)
  folder = str(tmp_path / "run")
  status, out, error, files = command(maml, *TINY, "--ways-up-to", "6", "--normalization", "none", "--folder", folder)
  assert status == 0 and "episode.png" in files, error
  assert re.search(
    r"up to 6-way variable-shot accuracy on unseen classes, 6 tasks with up to 10 queries per class", out
  )
  assert re.search(r"maml, variable ways .* ([\d.]+) ± [\d.]+%\n.*\n +chance +18.33%", out)
  (found, pixels) = json.loads((tmp_path / "run" / "records.json").read_text())
  assert found["ways_up_to"] == pixels["ways_up_to"] == 6 and found["variant"] == ["variable ways"]
  assert found["chance"] == 18.33 and not {"ways", "shots"} & set(found)
  if page:
    assert "confusion.png" in files and "Up to 6-way variable-shot" in (tmp_path / "run" / "index.html").read_text()

  status, again, error, _ = command(evaluate, folder, "--num-tasks", "6")
  assert status == 0 and f"{found['value']:.2f} ± {found['interval']:.2f}" in again, error
  for flags, message in (
    (["--ways", "3", "--queries", "2"], r"logits \[\d+, 3\] for labels of 3 ways, got \[\d+, 6\]"),
    (["--ways-up-to", "6", "--shots", "1"], "expected --ways-up-to or --ways and --shots, got 6 beside None and 1"),
  ):
    status, _, error, _ = command(evaluate, folder, *flags)
    assert status == 2 and re.fullmatch(f"error: .*{message}.*\n", error), error


def test_a_rate_that_is_too_high_ends_with_a_warning_on_the_terminal_and_the_page(command, monkeypatch):
  said = []
  monkeypatch.setattr(data, "load", synthetic_set)
  monkeypatch.setattr(driver, "write_page", lambda run, *given: said.extend(given[-1]))
  longer, task = ["--steps", "150", "--validate-every", "150"], ["--ways", "3", "--shots", "1", "--test", "3w1s"]
  status, _, error, _ = command(prototypical, *TINY, *longer, *task, "--learning-rate", "1e6")
  assert status == 0, error
  chance = [
    one for one in said if re.search(r"3-way 1-shot accuracy of prototypical .*no better than chance: 33.*", one)
  ]
  assert chance and all(f"warning: {one}\n" in error for one in said)


RUNNING, NONE = ("running statistics",), ("none",)
BOTH = ("transductive", "support, trained transductive")
ADAPTING = {  # flags of those that are tested under both query norms
  reptile: ["--shots", "1", "--head", "zeros", "--inner-steps", "2", "--inner-batch", "3"],
  meta_sgd: ["--head", "zeros", "--inner-steps", "2"],
  maml_plus_plus: ["--head", "repeated", "--inner-steps", "2", "--test-inner-steps", "3", "--multi-step-until", "1",
                   "--first-order-until", "1"],
  imaml: ["--head", "repeated", "--inner-steps", "3", "--cg-steps", "2"],
  cavia: ["--ways", "6", "--context", "3"],
  proto_maml: [],
  r2d2: [],
}  # fmt: skip
under = lambda query_norm, **how: [
  pytest.param(module, [*flags, *how["more"]], {module.__name__.split(".")[1]: query_norm}, marks=how.get("marks", ()))
  for module, flags in ADAPTING.items()
]


@pytest.mark.parametrize(
  ("module", "flags", "tested"),
  [
    (maml, ["--gradient", "first_order", "--head", "repeated"], {"first_order_maml": BOTH}),
    (anil, ["--head", "zeros", "--inner-steps", "2", "--test-inner-steps", "2", "--normalization", "group",
            "--curve", "2"], {"anil": NONE}),
    *under(NONE, more=["--normalization", "none"]),
    *under(BOTH, more=[], marks=pytest.mark.slow),
    (matching, ["--read-steps", "2"], {"matching, full context": RUNNING}),
    (triplet, ["--classes", "3", "--each", "2", "--soft-margin", "--negatives", "hard"], {
      "triplet": RUNNING, "triplet, nearest neighbor": RUNNING
    }),
    (relation, ["--augmentation", "affine", "--center"], {"relation, distorted, centered": RUNNING}),
    (supervised, ["--head-steps", "3", "--tune-steps", "2", "--batch-size", "8"], {
      f"supervised, {way}": RUNNING
      for way in ("nearest centroid", "fine-tuned head", "cosine head", "linear perceptron", "perceptron", "fine-tuned")
    }),
  ],
)  # fmt: skip
def test_one_training_is_tested_at_any_ways_in_each_way_to_use_it(command, monkeypatch, no_page, module, flags, tested):
  few_programs.use(monkeypatch)
  monkeypatch.setattr(data, "load", synthetic_set)
  status, out, error, files = command(module, *TINY, "--ways", "3", *flags, "--test", "5w2s", "--record")
  assert status == 0, error
  name = next(file for file in files if file.endswith(".json") and "-glyphs" in file)
  written = json.loads(next(records.home(None).rglob(name)).read_text())
  found = [r for r in written if r["measure"] == "accuracy"]
  expected = [(learner, query_norm) for learner, query_norms in tested.items() for query_norm in query_norms] + [
    ("pixels", "none")
  ]
  assert [(r["learner"], r["policy"], r["ways"]) for r in found] == [(*way, 5) for way in expected]
  assert all(r["chosen_step"] in (1, 2) and r["test_seed"] == 2 for r in found if r["learner"] != "pixels")
  said = ("encoder", "image_size", "features", "params")
  assert all(r[key] for r in found[:-1] for key in said) and not set(said) & set(found[-1])
  leads = [r["points_ahead_of_pixels"] - (r["value"] - found[-1]["value"]) for r in found[:-1]]
  assert leads == pytest.approx([0.0] * len(leads), abs=0.02) and {r["chance"] for r in found} == {20.0}
  ahead = out.split("in points, paired by task: mean ± 95% CI over tasks\n")[1]
  assert len(re.findall(r"^  over .+ -?[\d.]+ ± [\d.]+$", ahead, re.MULTILINE)) == len(expected) - 1
  curve = [r for r in written if r["measure"] == "accuracy_after_steps"]
  if "--curve" in flags:
    ways = len(expected) - 1
    assert [r["adaptation_steps"] for r in curve] == [0, 1, 2] * ways
    assert [r["value"] for r in curve[2::3]] == [r["value"] for r in found[:ways]]
    page = (records.home(None) / "README.md").read_text()
    assert "| 5-way 2-shot, no step | 5-way 2-shot, 1 step | 5-way 2-shot, 2 steps |" in page
  else:
    assert not curve


@pytest.mark.parametrize("trained", ["transductive", "support"])
def test_records_name_the_policy_that_was_tested(trained):
  """Under "transductive" alone an answer depends on the other queries."""
  make = lambda adapt, query_norm: maml_learner(convolutional, adapt, query_norm=query_norm)
  tested = adapted.under_both_norms("maml", make, Adapted(trained), gradient_steps(optax.sgd(0.1), 1), None)
  support, query = jax.tree.map(lambda x: x[0], learners.image_episodes(0))
  changed = np.concatenate([query.inputs[:2], 5 + query.inputs[2:] ** 2])
  for way in tested:
    params, state = way.learner.init(jax.random.key(0), learners.image_episodes(0))
    first, second = (jax.jit(way.learner.predict)(params, state, support, x)[:2] for x in (query.inputs, changed))
    depends = not np.allclose(first, second, atol=1e-3)
    assert depends == (way.query_norm.split(",")[0] == "transductive"), way.query_norm
    assert "trained" not in way.query_norm or way.query_norm.endswith(f"trained {trained}")
  assert tested[0].query_norm == trained and len(tested) == 2


def test_the_step_is_chosen_on_validation_classes(command, monkeypatch, no_page, no_pipelines):
  """Test tasks are looked at when the training has ended."""
  names, seen = ("train", "validation", "test"), []

  def toned(name, split, **flags):
    source = synthetic_set(name, split, **flags)
    return source._replace(images=np.full_like(source.images, 100 * names.index(split)))

  def watched(learner, params, state, batches, tasks):
    tone = round(float(np.mean(next(batches()).query.inputs)) / 100)
    seen.append(names[tone])
    return evaluated(learner, params, state, batches, tasks)

  evaluated = few_shot.few_shot_accuracy
  monkeypatch.setattr(data, "load", toned)
  for module in (few_shot, few_shot_scores):
    monkeypatch.setattr(module, "few_shot_accuracy", watched)
  status, _, error, _ = command(prototypical, *TINY, "--ways", "3", "--test", "3w1s")
  assert status == 0, error
  assert seen == ["validation"] * 2 + ["test"] * 2  # after each step; the learner and the pixels


def assert_published_as_printed(out):
  """The record of prototypical networks ahead of MAML is the difference in what was printed."""
  (published,) = records.home(None).rglob("ahead_of_maml-*.json")
  (ahead,) = json.loads(published.read_text())
  difference = re.search(r"prototypical \(running statistics\) +(-?[\d.]+) ± ([\d.]+)$", out, re.MULTILINE)
  assert ahead["value"] == -float(difference[1]) and ahead["interval"] == float(difference[2])
  assert ahead["beside"] == "maml (transductive)"


def assert_same_or_no_runs_are_refused(command, folder, at):
  status, _, error, _ = command(evaluate, str(folder), str(folder), *at)
  assert status == 2 and "expected runs of one learner to differ in their seeds, got [0, 0]" in error
  status, _, error, _ = command(evaluate)
  assert status == 2 and error == "error: expected one or more run folders, got none\n"


def test_two_runs_are_tested_on_the_same_tasks_with_their_paired_difference(command, finished, tmp_path):
  folder, _ = finished
  proto, at = tmp_path / "proto", ("--queries", "2", "--tasks", "6")
  assert command(prototypical, *TINY, "--ways", "3", "--test", "3w1s", "--folder", str(proto))[0] == 0
  status, out, error, _ = command(evaluate, str(folder), str(proto), *at, "--record")
  assert status == 0, error
  assert_published_as_printed(out)
  assert "points ahead of maml, 6 tasks" in (records.home(None) / "README.md").read_text()
  assert_same_or_no_runs_are_refused(command, folder, at)


@pytest.mark.slow
def test_several_runs_are_tested_on_the_same_tasks_with_their_paired_difference(command, finished, tmp_path):
  folder, _ = finished
  proto, other = tmp_path / "proto", tmp_path / "other seed"
  for seed, run in enumerate((proto, other)):
    flags = ["--ways", "3", "--test", "3w1s", "--seed", str(seed), "--folder", str(run)]
    assert command(prototypical, *TINY, *flags)[0] == 0
  at = ("--queries", "2", "--tasks", "6")
  status, out, error, _ = command(evaluate, str(proto), str(other), str(folder), *at)
  assert status == 0, error
  assert "mean ± 95% CI over 2 seeds\n" in out  # two of the runs differ only in their seeds
  ahead = out.split("in points, paired by task: mean ± 95% CI over tasks\n")[1]
  assert re.search(r"^  over maml \(transductive\) +-?[\d.]+ ± [\d.]+$", ahead, re.MULTILINE)
  status, out_of_two, error, _ = command(evaluate, str(folder), str(proto), *at, "--record")
  assert status == 0, error
  assert_published_as_printed(out_of_two)
  page = (records.home(None) / "README.md").read_text()
  assert "points ahead of maml, 6 tasks" in page and "running statistics, beside transductive" in page
  status, _, error, _ = command(evaluate, str(proto), str(other), *at, "--record")
  assert status == 2 and "expected several learners to record their differences, got prototypical alone" in error
  alone = [command(evaluate, str(one), *at)[1] for one in (proto, other)]
  means = [float(re.search(r"prototypical \(running statistics\) +([\d.]+)", text)[1]) for text in alone]
  found = re.search(r"prototypical \(running statistics\) +([\d.]+)", out)
  assert float(found[1]) == pytest.approx(np.mean(means), abs=0.01)
  assert_same_or_no_runs_are_refused(command, folder, at)
  status, out, error, _ = command(evaluate, str(proto), str(folder), *at, "--ways", "4")
  assert status == 2 and re.search(r"of 4 ways, got \[4, 3\] \(the run in '.*finished'\)", error) and "%" not in out


def test_records_are_flat_and_say_what_was_run_and_two_runs_of_one_seed_give_the_same(
  command, monkeypatch, tmp_path, no_page
):
  monkeypatch.setattr(data, "load", synthetic_set)
  runs = []
  for folder in ("first", "second"):
    command(
      prototypical, *TINY, "--ways", "4", "--test", "3w1s", "2w2s", "--record", "--folder", str(tmp_path / folder)
    )
    runs.append(json.loads((tmp_path / "experiments" / "results" / "prototypical-glyphs.json").read_text()))
  found = runs[0]
  assert [(r["learner"], r["ways"], r["shots"]) for r in found] == [
    ("prototypical", 3, 1), ("pixels", 3, 1), ("prototypical", 2, 2), ("pixels", 2, 2)]  # fmt: skip
  for r in found:
    assert 0 <= r["value"] <= 100 and r["tasks"] == 6 and r["queries"] == 2 and r["measure"] == "accuracy"
    assert "jax" in r["versions"] and r["seed"] == 0 and r["machine"]
  page = (tmp_path / "experiments" / "README.md").read_text()
  assert f"{found[0]['value']:.4g} ± " in page and "3-way 1-shot" in page and "prototypical" in page
  digits = lambda run: [(r["value"], r["interval"], r.get("chosen_step")) for r in run]
  assert digits(runs[0]) == digits(runs[1])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--ways", "11"], r"from 2 ways to the 10 classes of the source, got 11"),
    (["--shots", "5", "--queries", "2"], r"shots \+ queries of at most 6, .*; got 5 \+ 2 = 7"),
    (["--learning-rate", "-1"], r"--learning-rate above 0, got -1.0"),
    (["--inner-learning-rate", "nan"], r"--inner-learning-rate above 0, got nan"),
    (["--filters", "0"], r"filters to be at least 1, got 0"),
    (["--devices", "0"], r"--devices to be at least 1, got 0"),
    (["--seed", "-1"], r"--seed to be at least 0, got -1"),
    (["--seed", "4294967295", "--seeds", "2"], r"--seed to be at most 2\*\*32 - 2, the --seeds, got 4294967295"),
    (["--steps", "0"], r"steps to be at least 1, got 0"),
    (["--test-tasks", "1"], r"--test-tasks to be at least 2, got 1"),
    (["--curve", "-1"], r"--adaptation-curve to be at least 0, got -1"),
    (["--validation-tasks", "1"], r"--validation-tasks to be at least 2, got 1"),
    (["--tasks", "3", "--devices", "2"], r"expected --meta-batch-size that 2 devices divide, got 3"),
    (["--devices", "9"], r"1 to 8 devices, .*got 9"),
    (["--test", "5ways"], r"such as 5w1s, got '5ways'"),
    (["--test", "3w1s"], r"logits \[3, 3\] for labels of 3 ways, got \[3, 5\]"),
    (["--budget", "huge"], r"--preset to be one of paper, paper_20way, cpu, demo, got 'huge'"),
    (["--wayz", "5"], r"unknown flag '--wayz': did you mean --ways\?"),
    (["--inner-steps", "0"], r"--inner-steps to be at least 1, got 0"),
    (["--ways-up-to", "1"], r"--ways-up-to to be at least 2, got 1"),
    (["--ways-up-to", "5", "--within-superclass"], r"--ways-up-to or --within-superclass, got both"),
  ],
)
def test_bad_input_gives_one_line_that_quotes_it_and_writes_nothing(command, monkeypatch, arguments, message):
  monkeypatch.setattr(data, "load", synthetic_set)
  status, _, error, files = command(maml, *TINY, *arguments)
  assert status == 2 and re.fullmatch(f"error: .*{message}.*\n", error), error
  assert not files


def test_a_curve_of_a_learner_without_steps_is_refused(command, monkeypatch):
  monkeypatch.setattr(data, "load", synthetic_set)
  status, _, error, files = command(r2d2, *TINY, "--curve", "3")
  assert (
    status == 2
    and error == "error: expected --adaptation-curve of a learner that adapts in any number of steps, got r2d2\n"
    and not files
  )


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--data", "no_such_set"], r"data set 'no_such_set' not found: .*--download"),
    (["--split", "lake"], r"split to be one of 'train', .*, got 'lake/train'"),
    (["--data", "omniglot", "--split", "murky"], r"unknown split 'murky/train' of omniglot: .*lake/train"),
  ],
)
def test_unknown_data_or_split_gives_one_line_that_says_what_there_is(
  command, monkeypatch, tmp_path, arguments, message
):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
  status, _, error, files = command(maml, *TINY, *arguments)
  assert status == 2 and re.fullmatch(f"error: .*{message}.*\n", error), error
  assert not files


def test_parts_that_share_a_class_are_refused(command, monkeypatch):
  monkeypatch.setattr(data, "load", lambda name, split, **flags: synthetic_set(name, "train"))
  status, _, error, files = command(maml, *TINY)
  assert status == 2 and "no class of train in validation, got 10 shared classes of glyphs, such as 'train 0'" in error
  assert not files


def test_records_of_other_settings_are_kept_and_those_of_the_same_replaced(monkeypatch, tmp_path):
  monkeypatch.setattr(records, "home", lambda command: tmp_path / "experiments")
  (tmp_path / "figure.png").write_bytes(b"")
  keys = ("queries", "tasks", "shots", "steps", "train_seconds")
  common = dict.fromkeys(keys, 1) | dict.fromkeys(("data", "split", "policy"), "some") | {"seed": 0, "seeds": 1}
  rows = ((3, 10, {}), (4, 20, {}), (3, 30, {"encoder": "a"}), (3, 40, {"encoder": "b"}), (3, 50, {"encoder": "a"}))
  for ways, value, more in rows:  # a row that says its encoder replaces one that does not
    about = common | {"ways": ways} | more
    published = [records.flat(Record("some", "accuracy", value, 0.5, published=1, about=about))]
    records.publish(records.home(None), "some", published, tmp_path / "figure.png")
  found = json.loads((tmp_path / "experiments" / "results" / "some.json").read_text())
  assert [(r["ways"], r["value"]) for r in found] == [(4, 20), (3, 40), (3, 50)]
  assert "40 ± 0.5" in (tmp_path / "experiments" / "README.md").read_text()


def test_an_output_that_cannot_be_written_is_found_before_training(command, monkeypatch, tmp_path):
  monkeypatch.setattr(data, "load", synthetic_set)
  (tmp_path / "runs").write_text("a file, not a folder")
  status, _, error, files = command(maml, *TINY)
  assert status == 2 and re.fullmatch(r"error: expected a writable folder for the output .*\n", error), error
  assert files == ["runs"]


def test_an_error_that_is_not_ours_keeps_its_traceback(command, monkeypatch):
  monkeypatch.setattr(data, "load", lambda *a, **k: np.zeros(2).reshape(3))
  with pytest.raises(ValueError, match="reshape"):
    command(maml, *TINY)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
  """The folder of a run that has ended."""
  folder = tmp_path_factory.mktemp("runs") / "finished"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(data, "load", synthetic_set)
    patch.setattr(driver, "write_page", without_a_page)
    patch.setattr(few_shot_tasks, "episodes", drawn_by_numpy.episodes)
    one_block.use(patch)
    patch.setattr(sys, "argv", [maml.__name__, *TINY, "--ways", "3", "--folder", str(folder)])
    commands.run_command(maml)
  return folder


@pytest.fixture
def finished(ended, monkeypatch, no_page, no_pipelines, tmp_path):
  """A copy of the folder of a run that has ended, and its records."""
  monkeypatch.setattr(data, "load", synthetic_set)
  folder = shutil.copytree(ended, tmp_path / "finished")
  return folder, json.loads((folder / "records.json").read_text())


def test_a_finished_run_that_is_gone_on_with_gives_the_same_records_without_a_step(command, finished):
  folder, before = finished
  metrics = (folder / "metrics.jsonl").read_text()
  status, out, _, _ = command(maml, "--folder", str(folder), "--resume")
  assert status == 0 and "step 2/2" not in out
  assert json.loads((folder / "records.json").read_text()) == before
  assert (folder / "metrics.jsonl").read_text() == metrics
  assert len(json.loads((folder / "run.json").read_text())["sessions"]) == 2


@pytest.mark.parametrize(
  ("module", "arguments", "message"),
  [
    (maml, [], "a folder without a run, got '.*finished': --resume goes on with it"),
    (maml, ["--resume", "--learning-rate", "0.5"], "--learning-rate 0.001, as the run in '.*finished' has it, got 0.5"),
    (maml, ["--resume", "--filters", "5"],
     r"a checkpoint of this learner, with params.encoder.kernel_0 float32 \[3, 3, 1, 5\], got one with .*4\] in .*/2"),
    (prototypical, ["--resume", "--inner-learning-rate", "2.0"], "unknown flag '--inner-learning-rate'"),
    (prototypical, ["--resume", *TINY, "--test", "3w1s"],
     "a checkpoint of this learner, with no params.head.bias, got one with params.head.bias"),
    (maml, ["--resume", "--keep", "0"], "--keep to be at least 1, got 0"),
  ],
)  # fmt: skip
def test_going_on_with_a_run_otherwise_is_refused_in_one_line(command, finished, module, arguments, message):
  folder, _ = finished
  before = sorted(path.stat().st_mtime for path in folder.rglob("*"))
  status, _, error, _ = command(module, "--folder", str(folder), *arguments)
  assert status == 2 and re.fullmatch(f"error: (expected )?{message}.*\n", error), error
  assert sorted(path.stat().st_mtime for path in folder.rglob("*")) == before


def test_a_run_from_before_a_flag_had_its_name_is_not_gone_on_with_otherwise(command, finished):
  folder, _ = finished
  text = (folder / "run.json").read_text()
  said = json.loads(text)
  said["flags"] = {"rate" if name == "learning_rate" else name: value for name, value in said["flags"].items()}
  (folder / "run.json").write_text(json.dumps(said))
  status, _, error, _ = command(maml, "--folder", str(folder), "--resume", "--learning-rate", "0.5")
  (folder / "run.json").write_text(text)
  assert status == 2 and error.startswith("error: expected --learning-rate 0.001, as the run in")


def test_resume_needs_to_be_told_the_folder(command):
  status, _, error, files = command(maml, *TINY, "--resume")
  assert status == 2 and error.startswith("error: expected --folder with --resume") and not files


@pytest.mark.slow
def test_two_evaluations_of_a_run_give_the_same_digits_at_any_setting(command, finished):
  folder, records = finished
  said = [command(evaluate, str(folder), "--shots", "2", "--queries", "3", "--tasks", "7") for _ in range(2)]
  assert said[0][0] == 0 and "3-way 2-shot accuracy on unseen classes, 7 tasks with 3 queries per class:" in said[0][1]
  figures = [re.findall(r"[\d.]+ ± [\d.]+", out) for _, out, _, _ in said]
  assert figures[0] == figures[1] and len(figures[0]) == 5  # two query norms and the pixels, two differences
  _, out, _, _ = command(evaluate, str(folder), "--queries", "2", "--tasks", "6")
  assert f"{records[0]['value']:.2f} ± {records[0]['interval']:.2f}" in out  # the run's own tasks


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--ways", "4"], r"expected logits \[4, 4\] for labels of 4 ways, got \[4, 3\]"),
    (["--ways", "11"], "from 2 ways to the 10 classes"),
    (["--tasks", "1"], "expected --num-tasks to be at least 2, got 1"),
  ],
)
def test_what_a_run_cannot_be_tested_at_is_refused_in_one_line(command, finished, monkeypatch, arguments, message):
  monkeypatch.setattr(few_shot_tasks, "episodes", episodes)  # which looks at what is asked of them
  status, _, error, _ = command(evaluate, str(finished[0]), "--queries", "2", *arguments)
  assert status == 2 and re.fullmatch(f"error: .*{message}.*\n", error), error


def test_runs_are_compared_at_one_precision_on_classes_that_none_was_trained_on(command, finished, tmp_path):
  folder, _ = finished
  other = shutil.copytree(folder, tmp_path / "other")
  said = json.loads((other / "run.json").read_text())
  (other / "run.json").write_text(json.dumps(said | {"arguments": [*said["arguments"], "--precision", "high"]}))
  status, _, error, _ = command(evaluate, str(folder), str(other), "--queries", "2", "--tasks", "6")
  assert status == 2 and error == "error: expected runs of one --precision, got high and highest\n"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(data, "load", lambda name, split, **flags: synthetic_set(name, "train"))
    status, _, error, _ = command(evaluate, str(folder), "--queries", "2", "--tasks", "6", "--split", "other")
  assert status == 2 and re.search("unseen by the run in '.*', got 10 of 10 seen classes, such as 'train 0'", error)


def alphabet(name, split="train", **flags):
  """What `synthetic_set` gives, all of one alphabet."""
  return synthetic_set(name, split, size=flags["size"])._replace(superclasses=("Some",) * 10)


def test_runs_are_tested_on_one_shot_classification_within_an_alphabet(command, monkeypatch, tmp_path, no_page):
  monkeypatch.setattr(data, "load", synthetic_set)
  monkeypatch.setattr(one_shot, "load", alphabet)
  folder = tmp_path / "run"
  assert command(siamese, *TINY, "--batch-size", "4", "--test", "3w1s", "--folder", str(folder))[0] == 0
  status, out, error, _ = command(one_shot, str(folder), "--ways", "6", "--runs", "5", "--record")
  assert status == 0, error
  assert re.search(
    r"6-way one-shot within an alphabet, 5 test runs: error\n  siamese \(running statistics\)  [\d.]+ ±", out
  )
  found = json.loads((records.home(None) / "results" / "one-shot-glyphs.json").read_text())
  assert [(r["learner"], r["measure"], r["ways"], r["tasks"]) for r in found] == [
    (name, "one_shot_error", 6, 5) for name in ("siamese", "pixels")
  ]
  status, _, error, _ = command(one_shot, str(folder), "--ways", "20")
  assert status == 2 and error == "error: expected an alphabet of at least 20 characters, got 10 at most\n"


def test_only_the_folder_of_a_run_is_evaluated(command, tmp_path):
  status, _, error, _ = command(evaluate, str(tmp_path))
  assert status == 2 and re.fullmatch("error: expected the folder of a run, with a run.json, got '.*'\n", error)
  (tmp_path / "run.json").write_text("{")
  status, _, error, _ = command(evaluate, str(tmp_path))
  assert status == 2 and re.fullmatch("error: '.*run.json' is not a JSON file: .*\n", error)


@pytest.mark.slow
def test_seeds_side_by_side_or_one_after_the_other_give_their_mean_with_an_interval_over_them(
  command, monkeypatch, tmp_path, no_page
):
  monkeypatch.setattr(data, "load", synthetic_set)
  found = []
  for in_parallel in ("1", "2"):
    folder = tmp_path / in_parallel
    status, out, _, _ = command(
      prototypical,
      *TINY,
      "--ways",
      "3",
      "--test",
      "3w1s",
      "--seeds",
      "2",
      "--seeds-in-parallel",
      in_parallel,
      "--folder",
      str(folder),
    )
    assert status == 0, out
    assert "mean ± 95% CI over 2 seeds" in out, out
    found.append(json.loads((folder / "records.json").read_text())[0])
  assert command(evaluate, str(folder), "--queries", "2", "--tasks", "6")[1].count(f"{found[-1]['value']:.2f} ±") == 1
  for record in found:
    assert record["seeds"] == 2 and record["value"] == pytest.approx(np.mean(record["each"]), abs=0.01)
    assert record["interval"] == pytest.approx(12.706 * np.std(record["each"], ddof=1) / 2**0.5, rel=0.01, abs=0.1)
  assert found[0]["each"] == pytest.approx(found[1]["each"], abs=4)  # a query of 36 may fall to the other side


def test_a_folder_of_ones_own_images_trains_and_its_page_names_what_is_broken(command, tmp_path):
  random = np.random.default_rng(0)
  for k in range(12):
    folder = tmp_path / "images" / f"class {k}"
    folder.mkdir(parents=True)
    for i in range(4):
      size = tuple(random.integers(20, 60, 2).tolist())
      image = Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).convert("L" if i % 2 else "RGB")
      image.save(folder / f"{i}.png")
  (tmp_path / "images" / "class 3" / "broken & torn.png").write_bytes(b"no image")
  arguments = ["--data", str(tmp_path / "images"), *TINY, "--ways", "2", "--folder", str(tmp_path / "run")]
  status, _, error, _ = command(maml, *arguments)
  assert status == 2 and "class 3/broken & torn.png" in error and "--skip-unreadable" in error
  assert not (tmp_path / "run").exists()
  status, out, error, _ = command(maml, *arguments, "--skip-unreadable")
  assert status == 0, error
  assert "left out 1 image that cannot be read: 'class 3/broken & torn.png'\n" in out
  assert "broken &amp; torn.png" in (tmp_path / "run" / "index.html").read_text()


@pytest.mark.slow
def test_a_trace_is_written_of_as_many_steps_as_asked_for(command, tmp_path):
  folder = tmp_path / "run"
  status, out, _, _ = command(sinusoid, "--steps", "20", "--tasks", "5", "--test-tasks", "25", "--hidden", "8",
                              "--folder", str(folder), "--profile", "2")  # fmt: skip
  assert status == 0 and "trace of 2 steps" in out
  assert list((folder / "maml" / "profile").rglob("*.xplane.pb")) and list(folder.rglob("perfetto_trace*"))


def test_sine_waves_are_a_pure_function_of_the_step_and_hosts_share_them():
  waves = sinusoid.sine_waves(10, 4, seed=3)
  whole, late = next(waves(2)), [b for b, _ in zip(waves(), range(3), strict=False)][2]
  parts = [next(waves(2, (host, 2))) for host in range(2)]
  for a, b, *c in zip(*map(jax.tree.leaves, (whole, late, *parts)), strict=True):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, np.concatenate(c))
  assert whole.support.inputs.shape == (4, 10, 1) and np.abs(whole.query.labels).max() <= 5


def test_sinusoid_ends_with_its_errors_records_and_figure(command):
  status, out, _, files = command(sinusoid, "--steps", "20", "--tasks", "5", "--test-tasks", "25", "--hidden", "8")
  figures = ["learning_curves-joint.png", "learning_curves-maml.png", "waves.png"]
  assert status == 0
  assert files == sorted([*figures, "index.html", *["metrics.jsonl"] * 2, "records.json", "run.json"])
  assert len(re.findall(r"^  .+ [\d.]+ ± [\d.]+", out, re.MULTILINE)) == 5


@pytest.mark.slow
def test_sinusoid_is_regressed_in_one_step(command):
  _, out, _, _ = command(sinusoid)
  errors = {k: float(v) for k, v in re.findall(r"  (.+?)  +([\d.]+) ±", out)}
  assert errors["maml, after 1 step"] < errors["maml, before"] / 3
  assert errors["maml, after 1 step"] < 0.5 * errors["joint pre-training, after 1 step"]
