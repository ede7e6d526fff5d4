"""Images beside their texts: read from where a user has them, each once an epoch, the same on any number of hosts."""

import collections
import itertools
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from metajax.data import from_arrays, image_texts, load_captioned, train_tokenizer

tfds.disable_progress_bar()
CLASSES = 10
CAPTIONS = tuple(
  tuple(f"number {k} text {i}" + " long" * 5 * (k == 7) for i in range(1 + k % 3)) for k in range(CLASSES)
)
IMAGES = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
SOURCE = from_arrays(IMAGES, np.arange(30) % CLASSES, captions=CAPTIONS)
TOKENIZER = train_tokenizer([text for texts in CAPTIONS for text in texts], 300)


def take(count, **how):
  batches = image_texts(SOURCE, TOKENIZER, **({"batch_size": 4, "max_length": 12, "seed": 3} | how))
  return list(itertools.islice(batches(), count))


def classes_of(pair):
  return pair.first[:, 0, 0, 0].astype(int) % CLASSES


def test_an_image_is_beside_a_caption_of_its_class_and_each_class_comes_once_an_epoch():
  seen, texts, images = [], collections.Counter(), collections.Counter()
  for pair in take(50):
    assert pair.first.shape == (4, 4, 4, 1) and pair.first.dtype == np.uint8 and pair.second.dtype == np.int32
    for label, tokens, image in zip(classes_of(pair), pair.second, pair.first, strict=True):
      assert TOKENIZER.text(tokens) in CAPTIONS[label] or label == 7
      texts[label, TOKENIZER.text(tokens)] += 1
      images[int(image[0, 0, 0])] += 1
      seen.append(label)
  for epoch in range(20):
    assert sorted(seen[epoch * 10 : epoch * 10 + 10]) == list(range(CLASSES))
  assert seen[:10] != seen[10:20]
  assert len(images) == 30 and len(texts) == sum(map(len, CAPTIONS))


def test_batches_are_the_same_from_any_step_and_on_any_number_of_hosts():
  whole = take(12)
  batches = image_texts(SOURCE, TOKENIZER, batch_size=4, max_length=12, seed=3)
  later = next(batches(11))
  shares = [next(batches(11, (host, 2))) for host in range(2)]
  for part in (0, 1):
    np.testing.assert_array_equal(later[part], whole[11][part])
    np.testing.assert_array_equal(np.concatenate([share[part] for share in shares]), whole[11][part])
  assert any((a.second != b.second).any() for a, b in zip(take(3), take(3, seed=4), strict=True))


def test_a_batch_takes_the_shortest_length_that_holds_it_and_ends_survive():
  pairs = take(40, lengths=(8, 10), max_length=12)
  for pair in pairs:
    ends = (pair.second == TOKENIZER.end).argmax(-1) + 1
    assert (pair.second == TOKENIZER.end).sum(-1).tolist() == [1] * 4
    assert pair.second.shape[1] == min(size for size in (8, 10, 12) if size >= ends.max())
  assert len({pair.second.shape for pair in pairs}) == 2


@pytest.mark.parametrize(
  ("how", "said"),
  [
    ({"batch_size": 11}, "a batch_size from 1 to the 10 classes of the source, got 11"),
    ({"lengths": (1,)}, r"lengths from 2 to 12, got \[1\]"),
    ({"lengths": (13,)}, r"lengths from 2 to 12, got \[13\]"),
  ],
)
def test_arguments_out_of_range_are_refused(how, said):
  with pytest.raises(ValueError, match=said):
    take(1, **how)


PHOTO = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
SETS = {  # the schemas of flickr8k, emoji and coco_captions
  "several": ({"image": PHOTO, "captions": tfds.features.Sequence(tfds.features.Text()), "image/filename":
               tfds.features.Text()}, lambda i: {"captions": [f"photo {i}", f"seen {i}"], "image/filename": ""}),
  "keywords": ({"image": PHOTO, "caption": tfds.features.Text(), "tags": tfds.features.Sequence(tfds.features.Text()),
                "category": tfds.features.ClassLabel(names=["odd", "even"])},
               lambda i: {"caption": f"name {i}", "tags": [f"word {i}", f"name {i}"], "category": 1 - i % 2}),
  "coco": ({"image": PHOTO, "image/id": np.int64,
            "captions": tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()}),
            "objects": tfds.features.Sequence({"label": tfds.features.ClassLabel(num_classes=3)})},
           lambda i: {"image/id": i, "captions": [{"id": j, "text": f"thing {i} {j}"} for j in range(1 + i % 2)],
                      "objects": [{"label": 1}]}),
  "bare": ({"image": PHOTO, "caption": tfds.features.Text()}, lambda i: {"caption": " " if i == 3 else "x"}),
  "mute": ({"image": PHOTO, "label": tfds.features.ClassLabel(num_classes=3)}, lambda i: {"label": 1}),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A data folder with sets of 12 images, eight of them for training."""
  place = tmp_path_factory.mktemp("captioned")
  for name, (features, texts) in SETS.items():
    records = [(i, {"image": np.full((5, 6, 3), 10 * i, np.uint8), **texts(i)}) for i in range(12)]
    tfds.dataset_builders.store_as_tfds_dataset(
      name=name,
      version="1.0.0",
      features=tfds.features.FeaturesDict(features),
      split_datasets={"train": records[:8], "validation": records[8:]},
      data_dir=str(place),
    )
  return str(place)


@pytest.mark.parametrize(
  ("name", "captions", "groups"),
  [
    ("several", lambda i: (f"photo {i}", f"seen {i}"), {""}),
    ("keywords", lambda i: (f"name {i}", f"word {i}"), {"odd", "even"}),
    ("coco", lambda i: tuple(f"thing {i} {j}" for j in range(1 + i % 2)), {""}),
  ],
)
def test_sets_of_tfds_give_each_image_with_all_its_texts(folder, name, captions, groups):
  for split, rows in (("official/train", range(8)), ("official/validation", range(8, 12))):
    source = load_captioned(name, split, size=4, data_dir=folder)
    assert source.images.shape == (len(rows), 4, 4, 3) and set(source.superclasses) == groups
    number = (source.images[:, 0, 0, 0] // 10).tolist()
    assert sorted(number) == list(rows)
    assert source.captions == tuple(captions(i) for i in number)
  parts = [load_captioned(name, part, size=4, data_dir=folder) for part in ("train", "validation", "test")]
  assert sum(len(part.labels) for part in parts) == 12
  assert len({text for part in parts for texts in part.captions for text in texts[:1]}) == 12


def test_sets_without_texts_are_refused(folder):
  with pytest.raises(
    ValueError, match="'mute' is not a set of captioned images: expected one 8-bit Image and texts named"
  ):
    load_captioned("mute", data_dir=folder)
  with pytest.raises(ValueError, match="expected a caption for every image of 'bare', got none for record"):
    load_captioned("bare", "official/train", data_dir=folder)


@pytest.fixture
def own(tmp_path):
  for i in range(8):
    Image.fromarray(np.full((6, 6, 3), 10 * i, np.uint8)).save(tmp_path / f"{i}.png")
  return tmp_path


def table(own, kind):
  rows = [{"path": f"{i}.png", "caption": text} for i in range(8) for text in (f"number {i}", f"the {i}th, so")]
  if kind == "csv":
    lines = ["path,caption", *(f'{row["path"]},"{row["caption"]}"' for row in rows)]
  elif kind == "several":
    both = lambda i: [f"number {i}", f"the {i}th, so"]
    lines = [json.dumps({"path": f"{i}.png", "captions": both(i)}) for i in range(8)]
  else:
    lines = [*map(json.dumps, rows), ""]
  (own / f"captions.{'csv' if kind == 'csv' else 'jsonl'}").write_text("\n".join(lines))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "several"])
def test_ones_own_images_have_the_captions_of_a_table(own, kind):
  table(own, kind)
  whole = load_captioned(own, "official/all", size=6)
  assert whole.classes == tuple(f"{i}.png" for i in range(8))
  assert (whole.images[:, 0, 0, 0] // 10).tolist() == list(range(8)) == whole.labels.tolist()
  assert whole.captions[3] == ("number 3", "the 3th, so")
  parts = [load_captioned(own, part, size=6) for part in ("train", "validation", "test")]
  assert sorted(name for part in parts for name in part.classes) == sorted(whole.classes)


@pytest.mark.parametrize(
  ("file", "content", "said"),
  [
    ("captions.csv", "path,label\n0.png,a", "expected the columns path and caption, got path, label"),
    ("captions.csv", "path,caption\n0.png,a,b", "line 2: expected 2 fields, got others"),
    ("captions.csv", "path,caption\n0.png,", "line 2: expected a path and a caption, got '0.png' and"),
    (
      "captions.csv",
      "path,caption,split\n0.png,a,trian",
      "line 2: got split 'trian', expected train, validation or test",
    ),
    ("captions.csv", "path,caption,split\n0.png,a,train\n0.png,b,test", "which is in 'train' above"),
    ("captions.jsonl", '{"path": "0.png"}', 'line 1: expected an object with "path" and "caption" or "captions"'),
    ("captions.jsonl", "{", "line 1' is not a JSON file"),
    ("captions.jsonl", '{"path": "0.png", "captions": []}', "line 1: expected a path and a caption"),
    ("captions.jsonl", "\n", "names no images"),
    ("other.txt", "", "expected captions.csv or captions.jsonl in the folder .*, got neither"),
  ],
)
def test_tables_that_are_none_are_refused_by_line(own, file, content, said):
  (own / file).write_text(content)
  with pytest.raises(ValueError, match=said):
    load_captioned(own)


def test_broken_images_are_named_or_left_out(own):
  table(own, "csv")
  (own / "5.png").write_bytes(b"nothing")
  with pytest.raises(ValueError, match=r"1 of 8 images .* cannot be read: '5.png'"):
    load_captioned(own, "official/all")
  source = load_captioned(own, "official/all", skip_unreadable=True)
  assert "5.png" not in source.classes and len(source.captions) == 7 and source.captions[5][0] == "number 6"
  assert source.unreadable == ("'5.png'",)


@pytest.mark.parametrize("only", ["train", "val", "test"])
def test_captions_of_one_split_have_that_split_and_are_dealt_out_like_those_of_none(own, only):
  (own / "captions.csv").write_text("path,caption,split\n" + "".join(f"{i}.png,a,{only}\n" for i in range(8)))
  named, other = {"val": "validation"}.get(only, only), "train" if only == "test" else "test"
  assert len(load_captioned(own, f"official/{named}", size=6).captions) == 8
  parts = [load_captioned(own, part, size=6).classes for part in ("train", "validation", "test")]
  assert sorted(sum(parts, ())) == [f"{i}.png" for i in range(8)]
  with pytest.raises(
    ValueError, match=rf"unknown split 'official/{other}' of .*: expected one of .*official/{named}, official/all$"
  ):
    load_captioned(own, f"official/{other}", size=6)
