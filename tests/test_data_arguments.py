"""Every public argument of metajax.data is looked at before anything is read: what cannot be is named and quoted."""

import inspect
import re
import traceback

import numpy as np
import pytest

import metajax.data as data
from metajax.data import LazyImages, RandomCrop, Recordings, from_arrays
from metajax.data.builtin.cache import cache_folder
from metajax.data.builtin.glyphs import glyphs
from metajax.data.text.tokenizer import train_tokenizer
from metajax.types import Preprocessing

LABELS = np.repeat(np.arange(6), 4)
SOURCE = from_arrays(np.zeros((24, 4, 4, 1), np.uint8), LABELS, superclasses=["a"] * 6)
CLIPS = Recordings(np.zeros((6, 4, 2, 2, 1), np.uint8), None, 4.0, 0, ("x",) * 6, ("",) * 6, {})
TOKENIZER = train_tokenizer(["a dog", "a cat"], 258)
TASK = {"ways": 2, "shots": 1, "queries": 1}

NO_COUNT = (0, -1, 28.5, "8", None, True, 10**23, float("nan"), [1])
NO_SEED = (-1, 1.5, "1", None, True, 10**23)
NO_64_BITS = (2**63, -(2**63) - 1, 1.5, "1", None, True)
NO_FLAG = (1, "no", None, "False")
NO_TEXT = (0, None, ["train"], b"train")
NO_NAME = (0, None, "", "a\0b", b"set", "x" * 300, "a/" + "é" * 200, "ftp://host/set", "s3://bucket/t.csv", "https:/x")
NO_FOLDER = (0, ["x"])

NO_CROP = ("crop", (8,), RandomCrop(0), RandomCrop(8))  # the last one, for images without originals
NO_PREPROCESSING = ("clip", (4,), Preprocessing(0), Preprocessing(4, resize="no"))

LOAD = {"size": NO_COUNT, "seed": NO_SEED, "download": NO_FLAG, "split": NO_TEXT, "data_dir": NO_FOLDER}
NOWHERE = {"name": "nowhere_at_all"}
BAD = {  # a function, arguments that are fine but for there being no such data, and what each argument cannot be
  data.load: (NOWHERE, {**LOAD, "name": NO_NAME, "rotations": NO_FLAG, "skip_unreadable": NO_FLAG,
                        "min_images_per_class": (0, 1.5, "1", True), "preprocessing": NO_PREPROCESSING,
                        "split_classes": ("0.6", 1, None, (0.5, 0.5), (0.5, 0.6, 0.2), (1.2, -0.2, 0), (True, 0, 0)),
                        "test_classes": ("cat", None, 0, [0, 1], ["cat", "cat"]), "train_on_all": NO_FLAG,
                        "originals": NO_FLAG}),
  data.load_captioned: (NOWHERE, {**LOAD, "name": NO_NAME, "skip_unreadable": NO_FLAG, "originals": NO_FLAG,
                                  "preprocessing": NO_PREPROCESSING}),
  data.load_texts: (NOWHERE, {"name": NO_NAME, "split": (*NO_TEXT, "official/train", ""), "seed": NO_SEED,
                              "download": NO_FLAG, "data_dir": NO_FOLDER}),
  data.load_recordings: (NOWHERE, {**LOAD, "name": NO_NAME, "skip_unreadable": NO_FLAG, "sound": NO_FLAG,
                                   "frames": NO_COUNT, "sample_rate": NO_COUNT,
                                   "frame_rate": (0, -1, "8", None, float("nan"), float("inf"), 10.0**23),
                                   "seconds": (0, -1.0, "2", None, float("nan"), float("inf"), 10.0**23)}),
  data.moving_glyphs: ({}, {"split": NO_TEXT, "size": (*NO_COUNT, 8), "clips": NO_COUNT, "frames": NO_COUNT,
                            "seed": NO_SEED}),
  glyphs: ({}, {"split": NO_TEXT, "size": (*NO_COUNT, 7), "seed": NO_SEED, "families": ((), "STIX", 0, ("Arial",)),
                "distortion": (-1, "1", None, float("nan"), float("inf")), "cache": ("gs://bucket/cache", 0)}),
  data.episodes: ({"source": SOURCE, "meta_batch_size": 2, **TASK}, {
    "source": (None, "glyphs", (1, 2)), "ways": (*NO_COUNT, 1, 7), "shots": NO_COUNT, "queries": NO_COUNT,
    "meta_batch_size": NO_COUNT, "seed": NO_64_BITS, "within_superclass": NO_FLAG}),
  data.episode_rows: ({"source": SOURCE, **TASK}, {
    "source": (None,), "ways": (*NO_COUNT, 1, 7), "shots": NO_COUNT, "queries": NO_COUNT, "seed": NO_64_BITS,
    "within_superclass": NO_FLAG}),
  data.variable_episodes: ({"source": SOURCE, "meta_batch_size": 2}, {
    "source": (None, "glyphs", (), [SOURCE, None]), "meta_batch_size": NO_COUNT, "min_ways": (*NO_COUNT, 1, 7, 51),
    "max_ways": (*NO_COUNT, 1, 4, 501), "max_queries": NO_COUNT, "max_support": (*NO_COUNT, 49),
    "max_support_per_class": NO_COUNT, "seed": NO_64_BITS}),
  data.prompted_episodes: ({"source": SOURCE, "tokens": np.zeros((6, 3), int), "meta_batch_size": 2, **TASK}, {
    "source": (None,), "tokens": (None, np.zeros((5, 3), int), np.zeros((6, 3)), np.full((6, 3), -1)),
    "ways": (*NO_COUNT, 1, 7), "shots": NO_COUNT, "queries": NO_COUNT, "meta_batch_size": NO_COUNT,
    "seed": NO_64_BITS}),
  data.train_batches: ({"source": SOURCE, "batch_size": 2}, {"source": (None,), "batch_size": NO_COUNT,
                                                             "seed": NO_64_BITS, "crop": NO_CROP}),
  data.pairs: ({"source": SOURCE, "batch_size": 2}, {"source": (None,), "batch_size": NO_COUNT, "seed": NO_64_BITS,
                                                     "within_superclass": NO_FLAG}),
  data.triplets: ({"source": SOURCE, "batch_size": 2}, {"source": (None,), "batch_size": NO_COUNT, "seed": NO_64_BITS,
                                                        "within_superclass": NO_FLAG}),
  data.balanced: ({"source": SOURCE, "classes": 2, "each": 2}, {
    "source": (None,), "classes": (*NO_COUNT, 7), "each": (*NO_COUNT, 1, 5), "seed": NO_64_BITS,
    "within_superclass": NO_FLAG}),
  data.image_texts: ({"source": SOURCE, "tokenizer": TOKENIZER, "batch_size": 2}, {
    "source": (None,), "tokenizer": (None, "x"), "batch_size": (*NO_COUNT, 7), "max_length": (*NO_COUNT, 1),
    "lengths": ((1,), (2.5,), ("8",), (100,)), "seed": NO_64_BITS, "crop": (*NO_CROP, RandomCrop(8, views=2))}),
  data.as_image_dataset: ({"source": None}, {"source": (None, SOURCE, "a.tar")}),
  data.mixture: ({"sources": [SOURCE, SOURCE], "weights": [0.7, 0.3]}, {
    "sources": ((), [SOURCE], [SOURCE, None], [SOURCE, SOURCE._replace(images=np.zeros((24, 2, 2, 1), np.uint8))]),
    "weights": ((), [1.0], [0.5, 0], [0.5, -1], [1, "x"], [1, None], [1, float("nan")], [1, float("inf")], [1, 1e-6])}),
  data.one_shot_runs: ({"folder": "nowhere"}, {"folder": NO_NAME, "size": NO_COUNT}),
  data.one_shot_tasks: ({"source": SOURCE, "ways": 2, "runs": 2}, {
    "source": (None,), "ways": (*NO_COUNT, 1, 7), "runs": (0, 1.5, "2", None, True), "seed": (-1, 1.5, "1", None)}),
  data.fit_palette: ({"source": SOURCE}, {"source": (None,), "palette_size": (*NO_COUNT, 1), "size": NO_COUNT[:4],
                                            "seed": NO_SEED}),
  data.recording_batches: ({"source": CLIPS, "batch_size": 2}, {"source": (None, SOURCE), "batch_size": NO_COUNT,
                                                         "seed": NO_64_BITS}),
  data.eval_recording_batches: ({"source": CLIPS, "batch_size": 2}, {"source": (SOURCE,), "batch_size": NO_COUNT[:-3]}),
  data.select_recordings: ({"source": CLIPS, "rows": [0]}, {"source": (SOURCE,), "rows": (
    [-1], [6], [0.5], [True, False], [[0]], "0")}),
  data.cut_clips: ({"source": CLIPS, "frames": 2}, {"source": (SOURCE,), "frames": (*NO_COUNT, 5), "every": (-1, 1.5),
                                                    "start": (-1, 1.5, 4), "stop": (-1, 5, 1.5, 0)}),
  data.eval_batches: ({"source": SOURCE, "batch_size": 2}, {"source": (None,), "batch_size": NO_COUNT[:-3]}),
  data.split_within_classes: ({"source": SOURCE, "shares": (0.5, 0.5)}, {
    "source": (None,), "shares": ((), (0.5, float("nan")), (0.5, "x"), (1.0, 0.5), (-0.5, 0.5)),
    "seed": (-1, 1.5, "1")}),
  data.select_rows: ({"source": SOURCE, "rows": [0]}, {"source": (None,), "rows": (
    [], [-1], [24], [0, 0], [0.5, 1.7], [True, False], [[0]], "0")}),
  data.select_classes: ({"source": SOURCE, "indices": [0]}, {"source": (None,), "indices": (
    [], [-1], [6], [0, 0], [0.0, 1.0], [True, False], [[0]], "0")}),
  data.with_rotations: ({"source": SOURCE}, {"source": (None, "glyphs")}),
  data.from_arrays: ({"images": SOURCE.images, "labels": LABELS}, {
    "classes": ("abcdef", [1, 2, 3, 4, 5, 6]), "superclasses": ("abcdef", [None] * 6), "styles": ("x" * 24,),
    "captions": (["a", "b", "c", "d", "e", "f"],), "labels": (LABELS[:-1], LABELS * 1.0, LABELS - 1),
    "images": (SOURCE.images * 1.0, SOURCE.images[0])}),
  data.token_rows: ({"tokenizer": TOKENIZER, "texts": ["a dog"], "max_length": 4}, {
    "texts": ("a dog", [1], []), "max_length": NO_COUNT, "start": NO_FLAG}),
  data.token_batches: ({"rows": np.zeros((3, 4), np.int32), "batch_size": 2}, {
    "rows": (np.zeros((3, 4)), np.zeros(3, int), [["a"]], np.full((3, 4), 2**40)), "batch_size": NO_COUNT,
    "seed": NO_64_BITS}),
  data.train_tokenizer: ({"texts": ["a"]}, {"texts": ("a dog", [1]), "vocab_size": (*NO_COUNT, 257),
                                            "verbatim": NO_FLAG}),
  data.load_tokenizer: ({"path": "nowhere.json"}, {"path": NO_NAME, "verbatim": NO_FLAG[:2]}),
  data.load_siglip_tokenizer: ({"path": "nowhere"}, {"path": NO_NAME}),
  TOKENIZER: ({"texts": ["a"]}, {"texts": ("a", [1]), "max_length": (*NO_COUNT, 1)}),
  TOKENIZER.text: ({"tokens": [1, 2]}, {"tokens": ([300], [1.5], ["a"], np.zeros((2, 2), int))}),
  data.preprocess: ({"image": np.zeros((4, 4, 3), np.uint8), "preprocessing": Preprocessing(4)}, {
    "image": (np.zeros((4, 4, 3)), np.zeros(4, np.uint8), "x.png"), "preprocessing": (None, (4,), Preprocessing(0))}),
  LazyImages: ({"read": len, "shape": (2, 2, 1), "files": [0, 1]}, {
    "shape": ((2, 2), (2, 2, 1, 1)), "files": ([0.5], [[0]]), "turns": ([0], [0.5, 1.0]), "originals": (len, "a")}),
}  # fmt: skip


@pytest.mark.parametrize("function", BAD, ids=lambda function: getattr(function, "__name__", "Tokenizer"))
def test_an_argument_that_cannot_be_is_refused_in_one_line_of_ours(function):
  fine, bad = BAD[function]
  for name, values in bad.items():
    for value in values:
      try:
        function(**{**fine, name: value})
      except (ValueError, TypeError) as error:
        said, frames = str(error), traceback.extract_tb(error.__traceback__)
      else:
        pytest.fail(f"{name}={value!r} was taken")
      of_ours = re.search("expected|at least|has |do not fit", said) and "\n" not in said and len(said) < 600
      assert of_ours, (name, value, said)
      assert "metajax/" in frames[-1].filename, f"{name}={value!r} was refused in {frames[-1].filename}: {said}"


def test_every_public_argument_has_a_value_that_it_cannot_be():
  free = {"LazyImages": {"read"}, "token_rows": {"tokenizer"}}  # any that does what they are called for
  for name in data.__all__:
    function = getattr(data, name)
    if name in (
      "UnreadableImages",
      "NoSuchSplit",
      "Recordings",
      "ImageDataset",
      "ImageTexts",
      "Mixture",
      "RandomCrop",
      "Tokenizer",
      "SiglipTokenizer",
    ):
      continue
    assert function in BAD, name
    arguments = set(inspect.signature(function).parameters) - free.get(name, set())
    assert arguments == set(BAD[function][1]), name


PLACES = (
  ({"start": -1}, "got -1"),
  ({"start": 1.5}, "got 1.5"),
  ({"start": 2**63}, "got 9223372036854775808"),
  ({"shard": (2, 2)}, r"got \(2, 2\)"),
  ({"shard": (0, 1.5)}, r"two whole numbers, got \(0, 1.5\)"),
  ({"shard": 1}, "two whole numbers, got 1"),
  ({"shard": (0, 1, 2)}, r"two whole numbers, got \(0, 1, 2\)"),
)


@pytest.mark.parametrize(
  "batches",
  [
    data.episodes(SOURCE, meta_batch_size=2, **TASK),
    data.variable_episodes(SOURCE, meta_batch_size=2),
    data.train_batches(SOURCE, batch_size=2),
    data.pairs(SOURCE, batch_size=2),
    data.balanced(SOURCE, classes=2, each=2),
    data.eval_batches(SOURCE, batch_size=2),
    data.recording_batches(CLIPS, batch_size=2),
    data.eval_recording_batches(CLIPS, batch_size=2),
    data.token_batches(np.zeros((3, 4), np.int32), batch_size=2),
    data.one_shot_tasks(SOURCE, ways=2, runs=2),
    data.image_texts(SOURCE, TOKENIZER, batch_size=2),
  ],
)
def test_a_place_that_cannot_be_is_refused(batches):
  for where, said in PLACES:
    with pytest.raises(ValueError, match=said):
      next(iter(batches(**where)))


def test_a_home_folder_is_expanded_and_a_bucket_refused_at_once(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  TOKENIZER.save("~/words.json")
  assert data.load_tokenizer("~/words.json").vocab_size == 258
  (tmp_path / "book.txt").write_text("a line\n" * 50)
  assert data.load_texts("~/book.txt")[0][0].startswith("a line")
  monkeypatch.setenv("METAJAX_CACHE", "~/kept")
  assert cache_folder() == tmp_path / "kept"
  for call in (TOKENIZER.save, data.load_tokenizer, data.load_recordings):
    with pytest.raises(ValueError, match=r"on this machine, got 'gs://bucket/x': .*a disk or .*bucket"):
      call("gs://bucket/x")
  with pytest.raises(ValueError, match=r"data_dir .* on this machine, or of .*gs://.*, got 'ftp://x'"):
    data.load("cifar10", data_dir="ftp://x")


def test_a_name_that_no_disk_could_hold_is_one_line():
  with pytest.raises(ValueError, match=r"at most 255 bytes, got one of 300: 'x{30}'\.\.\.") as raised:
    data.load("x" * 300)
  assert not re.search("x{40}", str(raised.value))
