"""From a trained run to predictions on user-supplied images: files, folders, labels, scores and the commands."""

import csv
import json
import shutil
from pathlib import Path

import commands
import jax
import numpy as np
import params_by_numpy
import published_clips
import pytest
from PIL import Image
from table_of_learners import LEARNERS

import metajax
from metajax import Episode, Examples, export, inference
from metajax.cli import __main__ as console
from metajax.data.files.image_file import read_image
from metajax.export import ImageFormat
from metajax.inference import images, labels, overlap, scoring
from metajax.inference.page import summarize
from metajax.networks import load_clip
from metajax.predictors import nearest_centroid

FORM = ImageFormat(8, 1, "dark")
CONFIGURATION = {
  "experiment": "experiments.prototypical",
  "command": "",
  "arguments": [],
  "flags": {"steps": 9},
  "sessions": [],
}
CLASSES = ("cross", "dot", "line")


def drawn(kind, seed, side=8):
  """A light shape on black, with noise."""
  random, image = np.random.default_rng(seed), np.zeros((side, side), np.float32)
  at = random.integers(2, side - 2)
  if kind in ("cross", "line"):
    image[at] = 1
  if kind == "cross":
    image[:, random.integers(2, side - 2)] = 1
  if kind == "dot":
    image[at - 1 : at + 1, at - 1 : at + 1] = 1
  return np.uint8(255 * np.clip(image + random.uniform(0, 0.1, image.shape), 0, 1))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The export of a tiny prototypical network on light shapes."""
  learner = LEARNERS["prototypical"].learner
  inputs = np.stack([drawn(kind, seed)[..., None] for kind in CLASSES for seed in range(3)]) / np.float32(255)
  task = Examples(inputs, np.repeat(np.eye(3, dtype=np.float32), 3, 0))
  params, state = params_by_numpy.start(learner.init, jax.tree.map(lambda x: x[None], Episode(task, task)))
  folder = tmp_path_factory.mktemp("run")
  export.write_export(folder / "export", learner, params, state, Episode(task, task), name="shapes", platforms=["cpu"])
  return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Folders of dark shapes on white, of several sizes and modes: a support set of unequal shots, and new images."""
  root = tmp_path_factory.mktemp("photos")
  modes = ("L", "RGB", "RGBA", "P")
  for i, kind in enumerate(CLASSES):
    for part, seeds in (("support", range(3 + i)), ("new", range(10, 14))):
      for seed in seeds:
        image = Image.fromarray(255 - drawn(kind, seed)).resize((8 * (1 + seed % 3), 16))
        path = root / part / kind / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.convert(modes[seed % 4]).save(path)
  return root


@pytest.fixture(scope="module")
def classifier(run, photos):
  return metajax.load(run).fit(photos / "support")


def test_a_classifier_gives_probabilities_for_paths_pillow_images_and_arrays(run, photos, classifier):
  assert classifier.classes == CLASSES and classifier.invert  # the model was trained on light shapes
  paths = sorted((photos / "new").rglob("*.png"))
  by_path = classifier([str(path) for path in paths])
  assert by_path.shape == (12, 3)
  np.testing.assert_allclose(by_path.sum(1), 1, rtol=1e-5)
  opened = [Image.open(path) for path in paths]
  np.testing.assert_array_equal(by_path, classifier(opened))
  np.testing.assert_array_equal(by_path, classifier(photos / "new"))
  arrays = [np.asarray(image.convert("RGB" if image.mode in ("P", "RGBA") else image.mode)) for image in opened]
  np.testing.assert_array_equal(by_path, classifier(arrays))
  np.testing.assert_array_equal(by_path[:1], classifier(np.float32(arrays[0]) / 255))


def test_support_is_read_alike_from_a_folder_a_table_an_archive_and_arrays(photos, tmp_path):
  wanted = inference.read_support(photos / "support", FORM)
  paths = sorted((photos / "support").rglob("*.png"))
  table = "path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in paths)
  (tmp_path / "it.csv").write_text(table)
  np.savez(tmp_path / "it.npz", images=wanted.images, labels=np.array(wanted.labels))
  by_class = {kind: [path for path in paths if path.parent.name == kind] for kind in CLASSES}
  for given in (tmp_path / "it.csv", tmp_path / "it.npz", by_class, (paths, [path.parent.name for path in paths])):
    found = inference.read_support(given, FORM)
    np.testing.assert_array_equal(found.images, wanted.images)
    assert found.labels == wanted.labels
  assert [wanted.labels.count(kind) for kind in CLASSES] == [3, 4, 5]


@pytest.mark.parametrize(
  ("break_it", "message"),
  [
    (lambda root: (root / "cross" / "x.png").write_text("no image"), "expected images that can be read, got .*x.png"),
    (lambda root: (root / "empty").mkdir(), "expected images of every class, got none in .*empty"),
    (lambda root: [(root / kind).rename(root.parent / kind) for kind in ("dot", "line")], "has one class, 'cross'"),
  ],
)
def test_a_support_set_that_cannot_be_used_is_refused(photos, tmp_path, break_it, message):
  import shutil

  shutil.copytree(photos / "support", tmp_path / "support")
  break_it(tmp_path / "support")
  with pytest.raises(ValueError, match=message):
    inference.read_support(tmp_path / "support", FORM)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (np.zeros((8, 8, 2), np.uint8), r"expected an image .* got uint8 \[8, 8, 2\]"),
    (np.full((8, 8), 3.0), r"got float64 \[8, 8\] from 3 to 3"),
    ([], "expected at least one image, got none"),
    (5, "expected paths, images of Pillow or arrays, got 5"),
  ],
)
def test_other_things_than_images_are_refused(given, message):
  with pytest.raises(ValueError, match=message):
    images.as_images(given, FORM)


def test_images_are_exchanged_only_where_both_backgrounds_are_plain_and_opposite():
  dark, light = np.zeros((4, 8, 8, 1), np.uint8), np.full((4, 8, 8, 1), 255, np.uint8)
  photo = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype(np.uint8)
  for background, wanted in (("dark", (False, True, False)), ("light", (True, False, False)), ("any", (False,) * 3)):
    form = FORM._replace(background=background)
    assert tuple(images.must_invert(one, form) for one in (dark, light, photo)) == wanted


def named(photos):
  return [str(path) for path in sorted((photos / "new").rglob("*.png"))]


@pytest.mark.parametrize("end", ["csv", "jsonl"])
def test_an_interrupted_labeling_is_continued_to_the_same_file(classifier, photos, tmp_path, monkeypatch, end):
  monkeypatch.setattr(images, "BATCH", 5)
  whole = inference.label_images(classifier, named(photos), tmp_path / f"whole.{end}").read_bytes()
  calls, predict = [], type(classifier.classifier).predict

  def interrupted(self, rows):
    calls.append(len(rows))
    if len(calls) == 2:
      raise KeyboardInterrupt
    return predict(self, rows)

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(type(classifier.classifier), "predict", interrupted)
    inference.label_images(classifier, named(photos), tmp_path / f"it.{end}")
  assert not (tmp_path / f"it.{end}").exists()
  with (tmp_path / f".scratch-it.{end}").open("ab") as file:
    file.write(b"half a ro")  # written, but not counted yet
  calls += [0]
  monkeypatch.setattr(type(classifier.classifier), "predict", interrupted)
  assert inference.label_images(classifier, named(photos), tmp_path / f"it.{end}").read_bytes() == whole
  assert calls[3:] == [5, 2]  # the first five were not labeled again
  assert sorted(path.name for path in tmp_path.iterdir()) == [f"it.{end}", f"whole.{end}"]


def test_other_images_or_another_threshold_begin_anew(classifier, photos, tmp_path, monkeypatch):
  monkeypatch.setattr(images, "BATCH", 5)
  of = lambda files, threshold=0.0: labels._identity(classifier, files, ".csv", threshold, False)
  files = named(photos)
  assert of(files) == of(files) and len({of(files), of(files[1:]), of(files, 0.5)}) == 3


def test_a_file_has_a_row_for_each_image_in_order_and_its_probabilities(classifier, photos, tmp_path):
  files, wanted = named(photos), classifier(named(photos))
  path = inference.label_images(classifier, files, tmp_path / "it.csv", threshold=0.4)
  found = list(labels.read_labels(path))
  assert [row.image for row in found] == files
  np.testing.assert_allclose([list(row.probabilities.values()) for row in found], wanted, atol=1e-6)
  assert [row.label for row in found] == [CLASSES[p.argmax()] if p.max() >= 0.4 else "" for p in wanted]
  assert all(row.nearest in classifier.names for row in found)
  as_json = inference.label_images(classifier, files, tmp_path / "it.jsonl", threshold=0.4)
  assert list(labels.read_labels(as_json)) == found
  summary = summarize(found)
  assert summary.number == 12 and sum(summary.counts.values()) == 12
  for rows in summary.uncertain.values():
    assert [row.probability for row in rows] == sorted(row.probability for row in rows)


def test_an_image_that_cannot_be_read_stops_or_has_a_row_that_says_so(classifier, photos, tmp_path):
  (tmp_path / "bad.png").write_text("no image")
  files = [*named(photos)[:2], str(tmp_path / "bad.png")]
  with pytest.raises(ValueError, match=r"bad\.png' \(not an image.*--skip-unreadable"):
    inference.label_images(classifier, files, tmp_path / "it.csv")
  assert not (tmp_path / "it.csv").exists()
  *_, last = labels.read_labels(inference.label_images(classifier, files, tmp_path / "it.csv", skip_unreadable=True))
  assert last.label == "" and last.error and not last.probabilities and np.isnan(last.probability)


def test_every_image_is_held_out_once_in_each_division():
  truth = np.repeat(np.arange(3), (3, 4, 5))
  for trials in scoring.stratified(truth, 3, 4, seed=0):
    assert sorted(np.concatenate([held for _, held in trials])) == list(range(12))
    assert all(len(np.union1d(kept, held)) == 12 and not np.intersect1d(kept, held).size for kept, held in trials)
    assert all(set(truth[kept]) == {0, 1, 2} for kept, _ in trials)


def test_scores_of_pixels_are_those_of_the_nearest_centroid_written_out(photos):
  support = inference.read_support(photos / "support", FORM)
  (scored,) = inference.score_model([scoring.pixels(support)], support.labels, folds=3, repeats=2)
  pixels, truth = np.float32(support.images.reshape(12, -1)) / 255, scored.truth
  predict, one_hot = nearest_centroid(lambda params, state, x: x), np.eye(3, dtype=np.float32)[truth]
  for row in range(12):
    others = np.delete(np.arange(12), row)
    logits = predict({}, {}, Examples(pixels[others], one_hot[others]), pixels[row : row + 1])
    assert scored.leave_one_out[row] == np.argmax(logits)
  assert scored.accuracy.mean == pytest.approx(100 * (scored.folds == truth).mean())
  assert scored.ahead_of(scored).mean == 0 and scored.confusion.sum(1) == pytest.approx(1)
  assert set(scored.confused) == set(np.flatnonzero((scored.folds != truth).any(0)))


def test_a_class_of_one_image_cannot_be_scored(photos):
  support = inference.read_support(photos / "support", FORM)
  with pytest.raises(ValueError, match="two images or more of every class to cross-validate, got one of cross"):
    inference.score_model([scoring.pixels(support)], ("cross", *support.labels[3:]))


def console_script(monkeypatch, capsys, *arguments):
  return commands.run(monkeypatch, capsys, "metajax", console.main, *map(str, arguments))


def test_predict_writes_labels_and_a_page(run, photos, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  status, out, err = console_script(
    monkeypatch, capsys, "predict", run, "--support", photos / "support", "--images", photos / "new"
  )
  assert status == 0, err
  assert "3 classes, 12 support images, 12 images to label" in out and "dark and light are exchanged" in out
  with (tmp_path / "labels.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 12 and {"image", "label", "probability", "margin", "unlike", "p(dot)"} <= set(rows[0])
  page = (tmp_path / "labels.html").read_text()
  assert "metajax predict" in page and page.count("<figure>") == len({row["label"] for row in rows})


def test_score_compares_runs_with_pixels_on_the_same_folds(run, photos, tmp_path, monkeypatch, capsys):
  there = tmp_path / "scores.json"
  status, out, err = console_script(
    monkeypatch, capsys, "score", run, "--support", photos / "support", "--repeats", 2, "--output", there
  )
  assert status == 0, err
  assert "leave-one-out" in out and "pixels, nearest centroid" in out and "chance 33.3%" in out
  scores = json.loads(there.read_text())
  assert [one["minus_first"] is None for one in scores] == [True, False]


def test_embed_writes_names_and_features(run, photos, tmp_path, monkeypatch, capsys):
  there = tmp_path / "it.npz"
  status, _, err = console_script(
    monkeypatch, capsys, "embed", run, "--images", photos / "new", "--output", there, "--dtype", "float16"
  )
  assert status == 0, err
  with np.load(there) as found:
    assert found["names"].tolist() == named(photos) and found["features"].dtype == np.float16
    wanted = metajax.load(run).embed(photos / "new")
    np.testing.assert_allclose(found["features"], wanted, rtol=2e-3, atol=2e-3)


def test_export_copies_what_a_run_has_and_loads_alike(run, photos, tmp_path, monkeypatch, capsys):
  status, _, err = console_script(monkeypatch, capsys, "export", run, tmp_path / "it")
  assert status == 0, err
  new, old = (metajax.load(place).embed(photos / "new") for place in (tmp_path / "it", run))
  np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["predict", "{no}", "--support", "{support}", "--images", "{new}"], "expected the folder of a finished run or"),
    (["predict", "{run}", "--support", "{no}", "--images", "{new}"], "no such folder, .csv or .npz file of labeled"),
    (["predict", "{run}", "--support", "{support}", "--images", "{no}"], "no such file or folder of images"),
    (
      ["predict", "{run}", "--support", "{support}", "--images", "{new}", "--output", "a.txt"],
      "ends in .csv or .jsonl",
    ),
    (["score", "--support", "{support}"], "expected one or more run folders, or --encoder with published weights, got"),
    (["export", "{run}", "{new}"], "expected a new folder for the export"),
    (["guess"], "metajax: expected one of predict, score, embed, export, runs, got 'guess'"),
  ],
)
def test_bad_input_of_a_command_is_one_line(run, photos, tmp_path, monkeypatch, capsys, arguments, message):
  monkeypatch.chdir(tmp_path)
  places = {"run": run, "support": photos / "support", "new": photos / "new", "no": Path("missing")}
  status, _, err = console_script(monkeypatch, capsys, *(argument.format(**places) for argument in arguments))
  assert status == 2 and err.count("\n") == 1 and message in err, err
  assert list(tmp_path.iterdir()) == []


def test_features_of_a_published_clip_are_its_networks_own(photos, tmp_path):
  published_clips.write(
    tmp_path / "clip",
    published_clips.arrays(),
    config=published_clips.HF,
    preprocessor_config=published_clips.PROCESSOR,
  )
  found = inference.load_encoder(tmp_path / "clip").embed(photos / "support")
  pretrained = load_clip(tmp_path / "clip")
  files = sorted((photos / "support").rglob("*.png"))
  seen = [read_image(str(file), size=8, channels=3, preprocessing=pretrained.preprocessing) for file in files]
  inputs = np.float32(np.stack(seen)) / np.float32(255)
  apply = jax.jit(lambda params: pretrained.networks.first.apply(params, {}, inputs, train=False)[0])
  wanted = apply(pretrained.params["image"])
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_support_images_of_the_training_are_found_where_they_lie_and_as_copies(photos, tmp_path):
  support, trained = inference.read_support(photos / "support", FORM), tmp_path / "trained"
  shutil.copytree(photos / "support", trained)
  shutil.copy(support.names[0], photos / "new.png")
  about = {"data": str(trained)}
  assert overlap.trained_images(about, support.names) == list(support.names)  # copies
  assert overlap.trained_images({"data": str(photos)}, support.names[:2]) == list(support.names[:2])
  assert overlap.trained_images({"data": "glyphs"}, support.names) == []
  nowhere = {"data": str(tmp_path / "none")}
  assert overlap.overlap_warning(nowhere, overlap.trained_images(nowhere, support.names), 12) is None
  Image.new("L", (9, 9)).save(photos / "new.png")
  assert overlap.trained_images(about, [str(photos / "new.png"), "image 3"]) == []


def test_predict_and_score_warn_of_images_of_the_training_and_of_a_stale_export(
  run, photos, tmp_path, monkeypatch, capsys
):
  folder = tmp_path / "run"
  shutil.copytree(run, folder)
  path = folder / "export" / "config.json"
  config = json.loads(path.read_text())
  path.write_text(json.dumps(config | {"about": {"data": str(photos)}}))
  (folder / "run.json").write_text(json.dumps(CONFIGURATION))
  given = ["--support", photos / "support"]
  for command, *more in (("predict", "--images", photos / "new", "--output", tmp_path / "it.csv"), ("score",)):
    status, _, error = console_script(monkeypatch, capsys, command, folder, *given, *more)
    assert status == 0, error
    assert f"warning: 12 of 12 support images are from the data of the training, {str(photos)!r}: " in error
    assert f"warning: {str(folder)!r} is stopped at step 0 of 9: its export is from before" in error
  assert "12 of 12 support images" in (tmp_path / "it.html").read_text()


def test_support_images_that_cannot_be_read_are_left_out_where_that_is_wanted(photos, tmp_path):
  shutil.copytree(photos / "support", tmp_path / "support")
  (tmp_path / "support" / "dot" / "0.png").write_bytes(b"no image")
  with pytest.raises(ValueError, match=r"dot/0\.png' \(not an image.*--skip-unreadable\) leaves them out"):
    inference.read_support(tmp_path / "support", FORM)
  read = inference.read_support(tmp_path / "support", FORM, skip_unreadable=True)
  (left_out,) = read.unreadable
  assert "dot/0.png: not an image" in left_out and len(read.images) == len(read.labels) == len(read.names) == 11
  for seed in range(1, 4):
    (tmp_path / "support" / "dot" / f"{seed}.png").write_bytes(b"no image")
  with pytest.raises(ValueError, match="images of every class that can be read, got none of 'dot'"):
    inference.read_support(tmp_path / "support", FORM, skip_unreadable=True)


def test_predictions_name_their_images(classifier, photos):
  predicted = classifier.predict(photos / "new")
  assert predicted.names == images.files_of([photos / "new"]) and len(predicted.labels) == 12
  array = np.zeros((2, 8, 8), np.uint8)
  assert classifier.predict([array[0], array[1]]).names == ["image 0", "image 1"]
