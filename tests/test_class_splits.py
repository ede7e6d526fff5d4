"""Classes of user-supplied images: distributed by shares, by names or all to training; tasks fit what there is."""

import functools
import json
from types import SimpleNamespace

import commands
import few_programs
import numpy as np
import pytest
from test_broken_images import write_folder

from experiments import evaluate, maml, prototypical, triplet
from experiments.families import data as image_data
from experiments.families import few_shot, representation
from experiments.families.few_shot.finished import FewShotRun, check_unseen
from experiments.families.few_shot.sizes import TaskSize, requested, sizes_for
from experiments.families.image_flags import SEEN, ImageData, split_name
from experiments.families.representation.evaluators import few_shot_tests
from metajax.data import from_arrays, load
from metajax.data.class_split import by_images, by_names, by_shares
from metajax.experiment import driver, headlines

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Twelve classes of eight images."""
  return write_folder(tmp_path_factory.mktemp("data") / "set", classes=12, each=8)


def classes_of(folder, **how):
  return [load(folder, part, size=8, **how).classes for part in PARTS]


@pytest.mark.parametrize("count", [*range(6, 30), 101])
@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (0.2, 0.3, 0.5), (0.98, 0.01, 0.01), (0.5, 0, 0.5), (0, 0.5, 0.5)])
def test_shares_are_kept_to_one_class_or_two_classes_and_parts_cover_all_once(count, shares):
  classes = np.arange(count) * 3
  parts = by_shares("x", classes, shares, seed=1)
  assert np.sort(np.concatenate([parts[part] for part in PARTS])).tolist() == classes.tolist()
  raised = sum(2 for share in shares if 0 < share * count < 2)
  for part, share in zip(PARTS, shares, strict=True):
    size = len(parts[part])
    assert size == 0 if share == 0 else size >= 2
    assert abs(size - share * count) <= max(1, raised) or size == 2
  assert all((parts[part] == by_shares("x", classes, shares, seed=1)[part]).all() for part in PARTS)


def test_another_seed_is_another_split_and_named_classes_are_the_test_part_of_any():
  names = [f"class {c}" for c in range(20)]
  by_seed = [by_shares("x", np.arange(20), (0.6, 0.2, 0.2), seed)["test"].tolist() for seed in range(3)]
  assert len(set(map(tuple, by_seed))) == 3
  for seed in range(3):
    parts = by_names("x", np.arange(20), names, ["class 7", "class 3"], seed)
    assert parts["test"].tolist() == [3, 7] and len(parts["validation"]) == 3
    assert sorted(np.concatenate(list(parts.values()))) == list(range(20))


@pytest.mark.parametrize("each", [6, 7, 8, 20, 41])
def test_images_of_each_class_are_distributed_at_least_two_to_each_part(each):
  labels = np.random.default_rng(0).permutation(np.repeat([0, 2, 5], each))
  rows = np.arange(len(labels)) * 2
  parts = by_images("x", rows, labels, "abcdef", seed=0)
  assert np.sort(np.concatenate(list(parts.values()))).tolist() == rows.tolist()
  held = max(2, each // 4)
  for part, number in zip(PARTS, (each - 2 * held, held, held), strict=True):
    assert np.bincount(labels[parts[part] // 2])[[0, 2, 5]].tolist() == [number] * 3


def test_a_folder_is_split_as_asked(folder):
  every = sorted(f"class {c}" for c in range(12))
  default, shares = classes_of(folder), classes_of(folder, split_classes=(0.6, 0.2, 0.2))
  assert shares == default and list(map(len, shares)) == [8, 2, 2]
  named = classes_of(folder, test_classes=["class 3", "class 10", "class 0"])
  assert named[2] == ("class 0", "class 10", "class 3") and sorted(sum(named, ())) == every
  same = [load(folder, part, size=8, train_on_all=True) for part in PARTS]
  assert all(sorted(part.classes) == every for part in same)
  assert [np.bincount(part.labels).tolist() for part in same] == [[4] * 12, [2] * 12, [2] * 12]
  seen = [image.tobytes() for part in same for image in part.images]
  assert len(set(seen)) == len(seen) == 96  # no image is in two parts


def test_a_set_with_splits_is_distributed_anew_and_says_so(tmp_path):
  folder = write_folder(tmp_path / "set", classes=13, each=6)
  for part in ("train", "test"):
    (folder / part).mkdir()
  for c in range(13):
    (folder / f"class {c}").rename(folder / ("test" if c < 3 else "train") / f"class {c}")
  assert load(folder, "test", size=8).classes == ("class 0", "class 1", "class 2")
  with pytest.warns(UserWarning, match=r"the splits in .* are ignored, with train_on_all"):
    assert len(load(folder, "train", size=8, train_on_all=True).classes) == 13


WRONG = {
  "two shares": ({"split_classes": (0.5, 0.5)}, "three shares from 0 to 1 with a sum of 1, got .0.5, 0.5."),
  "another sum": ({"split_classes": (0.5, 0.5, 0.5)}, "with a sum of 1"),
  "a text": ({"split_classes": "0.6"}, "three shares"),
  "no share": ({"split_classes": (0.5, 0, 0.5)}, "a share above 0 for validation"),
  "an unknown name": ({"test_classes": ["class 1", "clas 3"]}, "no class 'clas 3', .*did you mean 'class 3' or"),
  "a name twice": ({"test_classes": ["class 1", "class 1"]}, "got 'class 1' twice"),
  "one name": ({"test_classes": ["class 1"]}, r"2 or more test_classes \(--test-classes\) of .*, got 1 and 11"),
  "too many names": ({"test_classes": [f"class {c}" for c in range(9)]}, "got 9 and 3"),
  "two ways": ({"test_classes": ["class 1"], "train_on_all": True}, "one of split_classes, test_classes and"),
  "an official split": ({"split": "official/all", "train_on_all": True}, r"no train_on_all \(--train-on-all\) with an"),
  "no classes": ({"train_on_all": True, "min_images_per_class": 9}, "12 have fewer than 9 images .* has 0 classes"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_split_that_cannot_be_is_one_line(folder, how):
  arguments, said = WRONG[how]
  with pytest.raises(ValueError, match=said):
    load(folder, **{"split": "validation", "size": 8} | arguments)


def test_built_in_sets_keep_their_parts():
  with pytest.raises(ValueError, match=r"expected no split_classes \(--split-classes\) for glyphs"):
    load("glyphs", split_classes=(0.6, 0.2, 0.2))


def test_small_classes_are_left_out_before_images_are_held_out(tmp_path):
  folder = write_folder(tmp_path / "set", classes=4, each=8)
  for k in range(5):
    (folder / "class 2" / f"{k}.png").unlink()
  with pytest.raises(ValueError, match=r"6 or more images of each class .* got 3 of 'class 2'; min_images_per_class=6"):
    load(folder, size=8, train_on_all=True)
  parts = [load(folder, part, size=8, train_on_all=True, min_images_per_class=6) for part in PARTS]
  assert all(part.classes == ("class 0", "class 1", "class 3") for part in parts)
  assert all(part.small_classes == ("class 2",) for part in parts)
  with pytest.raises(ValueError, match="too few images of 'class 2', named in test_classes"):
    load(folder, size=8, test_classes=["class 2", "class 1"], min_images_per_class=6)
  with pytest.raises(ValueError, match=r"has 4 classes: expected 6 or more.*; train_on_all=True \(--train-on-all\)"):
    load(folder, size=8)


def setup_of(folder, *tests, **how):
  task = few_shot.Task(ways=30, queries=5)
  return few_shot.Setup(ImageData(data=str(folder), size=16, **how), task, tests=few_shot.Tests(tests))


def source(classes, each):
  return from_arrays(np.zeros((classes * each, 4, 4, 1), np.uint8), np.repeat(np.arange(classes), each))


def test_ways_and_queries_are_reduced_to_the_data_with_a_line_each(folder, capsys):
  parts = {"train": source(8, 4), "validation": source(2, 8), "test": source(2, 8)}
  sizes = sizes_for(setup_of(folder, "5w1s", "20w1s", "5w5s", "5w9s"), parts)
  assert sizes == (TaskSize(8, 1, 3), TaskSize(2, 1, 7), (TaskSize(2, 1, 7), TaskSize(2, 5, 3)))
  assert capsys.readouterr().out.splitlines() == [
    "training: 8 classes, so its tasks have 8 ways instead of 30; --train-on-all trains on every class, "
    "--split-classes distributes them",
    "training: 4 images of the smallest class, so its 1-shot tasks have 3 queries per class instead of 5",
    "validation: 2 classes, so its tasks have 2 ways instead of 5",
    "validation: 8 images of the smallest class, so its 1-shot tasks have 7 queries per class instead of 15",
    "test: 2 classes, so its tasks have 2 ways instead of 5",
    "test: 8 images of the smallest class, so its 1-shot tasks have 7 queries per class instead of 15",
    "test: 2 classes, so its tasks have 2 ways instead of 20",
    "test: 8 images of the smallest class, so its 5-shot tasks have 3 queries per class instead of 15",
    "test: 8 images of the smallest class, so 5w9s is left out",
  ]
  glyphs = setup_of("glyphs", "5w1s")
  assert sizes_for(glyphs, parts) == requested(glyphs) and not capsys.readouterr().out


def test_tasks_that_cannot_be_are_refused_with_the_classes_of_each_part_and_a_flag(folder):
  parts = {"train": source(8, 8), "validation": source(2, 8), "test": source(2, 4)}
  numbers = r"\(training: 8 classes, validation: 2 classes, test: 2 classes\)"
  with pytest.raises(ValueError, match=f"9 or more .* test class, .* got 4 of '0': pass --test with .* 3 {numbers}"):
    sizes_for(setup_of(folder, "5w8s"), parts)
  with pytest.raises(ValueError, match="expected 2 or more validation classes, got 1: --split-classes"):
    sizes_for(setup_of(folder, "5w1s"), parts | {"validation": source(1, 8)})
  alone = parts["train"]._replace(superclasses=("a",) * 7 + ("b",))
  setup = setup_of(folder, "5w1s")
  with pytest.raises(ValueError, match="classes in every superclass of training, got 1"):
    sizes_for(setup._replace(task=setup.task._replace(within_superclass=True)), parts | {"train": alone})


def test_flags_that_contradict_each_other_are_one_line():
  every = "--split, --split-classes, --test-classes, --train-on-all"
  for how in ({"test_classes": ("a", "b")}, {"split": "official"}, {"split_classes": (0.6, 0.2, 0.2)}):
    with pytest.raises(ValueError, match=f"expected one of {every}, got --.* and --train-on-all"):
      image_data.load_part(ImageData(data="/nowhere", train_on_all=True, **how), "train")


def test_probes_of_all_classes_use_held_out_images_and_say_so(folder, capsys):
  flags = ImageData(data=str(folder), size=8, train_on_all=True)
  parts = representation.data.load_parts(flags, "auto")
  assert not parts.unseen and len(parts.unlabeled.images) == 48 and parts.test.classes == parts.unlabeled.classes
  tests = few_shot_tests(flags, representation.config.Probing(), parts)
  assert list(tests.tests()) == [(5, 1)] and tests.queries_at((5, 1)) == 1 and not tests.unseen
  assert representation.evaluators.about(flags, parts)["split"] == SEEN == split_name(flags)
  with pytest.raises(ValueError, match="--train-on-all without --classes"):
    representation.data.load_parts(flags, "unseen")
  shares = ImageData(data=str(folder), size=8, split_classes=(0.5, 0, 0.5))
  assert len(representation.data.load_parts(shares, "auto").test.classes) == 6
  assert split_name(shares) == "test, shares 0.5 0 0.5"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
  """Runs a command on 20 tasks of tiny networks: its status, standard output and standard error."""
  few_programs.use(monkeypatch)
  monkeypatch.setattr(driver, "write_page", lambda *given: None)

  def run(module, *arguments):
    name = module.__name__.rpartition(".")[2]
    return commands.run(monkeypatch, capsys, name, functools.partial(commands.run_command, module), *arguments)

  return run


TINY = ["--preset", "cpu", "--size", "16", "--filters", "4", "--steps", "2", "--validation-tasks", "4"]
TINY += ["--test-tasks", "4", "--devices", "1", "--test", "5w1s", "5w5s"]


def test_a_run_on_all_classes_says_so_and_is_resumed_with_its_split_alone(run, folder, tmp_path):
  made = ["--folder", str(tmp_path / "run")]
  status, out, error = run(prototypical, "--data", str(folder), *TINY, *made, "--train-on-all")
  assert status == 0, error
  assert "12 classes, all seen in training: 48 images for training, 24 images for validation, 24 images" in out
  assert "5-way 1-shot accuracy on classes seen in training, 4 tasks with 1 query per class" in out
  assert "warning: classes seen in training" in error
  records = json.loads((tmp_path / "run" / "records.json").read_text())
  assert [(r["split"], r["ways"], r["shots"], r["queries"]) for r in records] == [(SEEN, 5, 1, 1)] * 2
  assert headlines.warn(None, records)[-1].startswith("classes seen in training")
  status, _, error = run(prototypical, *made, "--resume", "--no-train-on-all")
  assert status == 2 and "expected --train-on-all True" in error


def test_test_classes_of_another_distribution_are_refused_to_a_run_that_has_seen_them(folder):
  own = setup_of(folder, "5w1s", train_on_all=True)
  found = FewShotRun(SimpleNamespace(folder="run"), own, None, None)
  test = image_data.load_part(own.data, "test")
  check_unseen(found, own.data, test)
  with pytest.raises(ValueError, match="expected test classes unseen by the run in 'run', got 12 of 12 seen classes"):
    check_unseen(found, own.data._replace(train_on_all=False), test)
  shares = own.data._replace(train_on_all=False, split_classes=(0.6, 0.2, 0.2))
  other = FewShotRun(SimpleNamespace(folder="run"), own._replace(data=shares), None, None)
  check_unseen(other, shares._replace(split_classes=()), image_data.load_part(shares, "test"))  # the same classes


@pytest.mark.slow
def test_a_finished_run_is_tested_on_the_split_that_it_has(run, folder, tmp_path):
  made = ["--folder", str(tmp_path / "run")]
  assert run(prototypical, "--data", str(folder), *TINY, *made, "--train-on-all")[0] == 0
  status, out, error = run(evaluate, str(tmp_path / "run"), "--num-tasks", "4")
  assert status == 0 and "accuracy on classes seen in training, 4 tasks with 1 query per class" in out, error
  status, _, error = run(evaluate, str(tmp_path / "run"), "--num-tasks", "4", "--split", "")
  assert status == 2 and "got 2 of 2 seen classes" in error


def test_a_head_of_fixed_width_is_refused_fewer_ways_before_training(run, folder, tmp_path):
  flags = ["--head", "fixed", "--folder", str(tmp_path / "run")]
  status, _, error = run(maml, "--data", str(folder), *TINY, *flags)
  assert status == 2 and error.endswith(
    "(training: 8 classes, validation: 2 classes, test: 2 classes): pass --ways 2 --test 2w1s\n"
  )
  assert not (tmp_path / "run").exists()


def test_batches_of_classes_are_reduced_as_well(folder, capsys):
  setup = setup_of(folder, "5w1s")
  batches = triplet._batches(triplet.Config(each=9, setup=setup), source(8, 4), 0)
  assert next(batches()).inputs.shape == (32, 4, 4, 1)
  assert capsys.readouterr().out.splitlines() == [
    "training: 8 classes, so its batches have 8 classes instead of 32",
    "training: 4 images of the smallest class, so its batches have 4 of each class instead of 9",
  ]
