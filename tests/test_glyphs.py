"""The glyphs data set: what it holds, that its splits share nothing, how hard it is, and its cache."""

import collections
import functools
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from metajax import data
from metajax.data.builtin.glyphs import FAMILIES, SPLITS, characters, classes, glyphs
from metajax.data.builtin.glyphs import source as module

FEW = 4  # images of a class, in place of 24
SMALL = {"COPTIC CAPITAL": ("Coptic", "validation"), "TIFINAGH LETTER TUAREG": ("Tuareg", "test")}


@pytest.fixture
def small(monkeypatch, tmp_path):
  """Two small scripts only, of few images, so that building is quick, and an empty cache."""
  monkeypatch.setattr(characters, "SCRIPTS", SMALL)
  monkeypatch.setattr(module, "IMAGES", FEW)
  monkeypatch.setenv("METAJAX_CACHE", str(tmp_path / "cache"))


@functools.cache
def drawn(split):
  return glyphs(split)


@functools.cache
def all_plain():
  return glyphs("all", distortion=0.0)


@functools.cache
def plain(split):
  """The undistorted images of a split, out of one drawing of all."""
  everything = all_plain()
  kept = np.flatnonzero([dict(characters.SCRIPTS.values())[script] == split for script in everything.superclasses])
  rows = np.isin(everything.labels, kept)
  return everything._replace(
    images=everything.images[rows],
    labels=np.searchsorted(kept, everything.labels[rows]),
    classes=tuple(everything.classes[label] for label in kept),
    styles=tuple(np.array(everything.styles)[rows]),
  )


def images(source):
  return {image.tobytes() for image in source.images}


def equal(first, second):
  return (
    np.array_equal(first.images, second.images)
    and np.array_equal(first.labels, second.labels)
    and first[2:] == second[2:]
  )


def pixel_accuracy(source, ways, tasks, shots=1, queries=15):
  """Percent correct of nearest centroid on raw pixels, over random tasks."""
  generator = np.random.default_rng(0)
  pixels = source.images.reshape(len(source.images), -1).astype(np.float32) / 255
  members = [np.flatnonzero(source.labels == label) for label in range(len(source.classes))]
  correct = []
  for _ in range(tasks):
    chosen = generator.choice(len(members), ways, replace=False)
    rows = np.stack([generator.permutation(members[label])[: shots + queries] for label in chosen])
    centroids = pixels[rows[:, :shots]].mean(axis=1)
    distance = np.sum(centroids**2, axis=1) - 2 * pixels[rows[:, shots:]] @ centroids.T
    correct.append(np.mean(distance.argmin(axis=-1) == np.arange(ways)[:, None]))
  return 100 * np.mean(correct)


@pytest.mark.parametrize(("split", "classes"), [("train", 1500), ("validation", 100), ("test", 300)])
def test_a_split_holds_its_scripts_with_24_uint8_images_of_each_class(split, classes):
  source = drawn(split)
  assert len(source.classes) == len(set(source.classes)) >= classes
  assert len(source.classes) == len(source.superclasses) == len(source.captions)
  assert set(source.superclasses) == {script for script, place in characters.SCRIPTS.values() if place == split}
  assert source.images.dtype == np.uint8 and source.images.shape == (len(source.labels), 28, 28, 1)
  assert source.labels.dtype == np.int32 and len(source.styles) == len(source.labels)
  assert np.bincount(source.labels, minlength=len(source.classes)).tolist() == [24] * len(source.classes)
  assert set(source.styles) <= set(FAMILIES)
  # Every image has full ink on empty paper, and is no box full of ink.
  assert source.images.max(axis=(1, 2, 3)).min() > 128
  assert np.all(np.mean(source.images == 0, axis=(1, 2, 3)) > 0.2)


def test_no_image_or_class_of_the_training_scripts_occurs_among_the_test_scripts():
  for earlier, later in (("train", "test"), ("train", "validation"), ("validation", "test")):
    first, second = drawn(earlier), drawn(later)
    assert set(first.classes).isdisjoint(second.classes)
    assert set(first.superclasses).isdisjoint(second.superclasses)
    assert set(sum(first.captions, ())).isdisjoint(sum(second.captions, ()))
    assert images(first).isdisjoint(images(second))
    assert images(plain(earlier)).isdisjoint(images(plain(later)))


def test_no_plain_test_character_nearly_equals_a_training_character_in_any_style_of_its_family():
  def distinct(source):
    found = {image.tobytes() for image in source.images[np.array(source.styles) == "DejaVu Sans"]}
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, 28**2).astype(float)

  train, test = distinct(plain("train")), distinct(plain("test"))
  ink, other = np.sum(test**2, axis=1)[:, None], np.sum(train**2, axis=1)
  assert np.min((ink + other - 2 * test @ train.T) / np.maximum(ink, other)) > classes.NEAR / 2


def test_characters_with_identical_images_are_one_class_named_after_the_first():
  source = drawn("train")
  captions = dict(zip(source.classes, source.captions, strict=True))
  assert {"GREEK CAPITAL LETTER ALPHA", "CYRILLIC CAPITAL LETTER A"} < set(captions["LATIN CAPITAL LETTER A"])
  assert "ARMENIAN SMALL LETTER OH" in captions["LATIN SMALL LETTER O"]
  assert captions["LATIN CAPITAL LETTER E WITH CARON"] == ("LATIN CAPITAL LETTER E WITH CARON",)
  assert all(name == names[0] for name, names in captions.items())
  assert 80 < sum(len(names) > 1 for names in source.captions) < 200


def test_nearest_centroid_on_pixels_is_weak_on_distorted_characters_and_strong_on_plain_ones():
  assert 35 < pixel_accuracy(drawn("test"), ways=5, tasks=1000) < 55
  assert pixel_accuracy(plain("test"), ways=5, tasks=1000) > 85
  assert pixel_accuracy(drawn("test"), ways=20, tasks=100) < 35


def test_families_are_held_out_and_the_others_images_stay_the_same(small):
  everything, sans = glyphs("all"), glyphs("all", families=("DejaVu Sans",))
  assert set(sans.styles) == {"DejaVu Sans"} and set(np.bincount(sans.labels)) == {FEW}
  assert images(everything) <= images(sans)  # these two scripts have no other family
  with pytest.raises(ValueError, match="none of which has a character of the split 'test'"):
    glyphs("test", families=("STIX",))


def test_the_characters_of_held_out_families_are_classes_of_the_others_too(small, monkeypatch):
  monkeypatch.setattr(characters, "SCRIPTS", {"GREEK": ("Greek", "train")})
  monkeypatch.setattr(module, "IMAGES", 12)  # one in each face of three families
  held_out, others = glyphs(families=("STIX",)), glyphs(families=FAMILIES[:3])
  assert set(held_out.styles) == {"STIX"} and set(others.styles) == set(FAMILIES[:3])
  assert len(held_out.classes) > 60 and set(np.bincount(held_out.labels)) == {12}
  assert set(held_out.classes) < set(others.classes)


def test_all_is_the_splits_together(small):
  parts = [glyphs(split) for split in SPLITS if split != "train"]
  everything = glyphs("all")
  assert everything.classes == sum((part.classes for part in parts), ())
  assert np.array_equal(everything.images, np.concatenate([part.images for part in parts]))


def test_two_builds_are_equal_to_the_byte_and_equal_what_the_cache_returns(small, tmp_path):
  first, second = glyphs("all", cache=tmp_path / "a"), glyphs("all", cache=tmp_path / "b")
  assert equal(first, second)
  assert equal(first, glyphs("all", cache=tmp_path / "a"))
  names = [[path.name for path in (tmp_path / folder).iterdir()] for folder in "ab"]
  assert names[0] == names[1] and len(names[0]) == 1  # and no temporary file is left


def test_another_process_with_other_string_hashes_draws_the_same_bytes(small, tmp_path):
  # Empty packages stand in for metajax and metajax.data, whose TensorFlow takes seconds to import.
  program = (
    "import hashlib, sys, types\n"
    f"folder = {os.path.dirname(data.__file__)!r}\n"
    "for name, path in (('metajax', folder[: -len('/data')]), ('metajax.data', folder)):\n"
    "  sys.modules[name] = types.ModuleType(name)\n"
    "  sys.modules[name].__path__ = [path]\n"
    "from metajax.data.builtin.glyphs import characters, source as module\n"
    f"characters.SCRIPTS, module.IMAGES = {SMALL!r}, {FEW}\n"
    "source = module.glyphs('all', cache=sys.argv[1])\n"
    "print(hashlib.sha256(source.images.tobytes() + repr(source[2:]).encode()).hexdigest())"
  )
  environment = {**os.environ, "PYTHONHASHSEED": "7"}
  command = [sys.executable, "-c", program, str(tmp_path / "other")]
  printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
  source = glyphs("all", cache=tmp_path / "own")
  assert printed.split()[-1] == hashlib.sha256(source.images.tobytes() + repr(source[2:]).encode()).hexdigest()


def test_seed_and_distortion_change_the_images_and_not_the_characters(small):
  plain, one, other = glyphs("test", distortion=0.0), glyphs("test"), glyphs("test", seed=2**64 - 1)
  assert plain.classes == one.classes == other.classes
  assert len(images(one) | images(other)) == len(one.images) + len(other.images)
  assert equal(plain, glyphs("test", distortion=0.0, seed=5))


def test_images_have_the_size_asked_for(small):
  assert glyphs("validation", size=20).images.shape[1:] == (20, 20, 1)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_cache_is_drawn_anew_with_a_warning(small, tmp_path, damage):
  source = glyphs("validation", cache=tmp_path)
  (path,) = tmp_path.glob("*.npz")
  path.write_bytes(damage(path.read_bytes()))
  with pytest.warns(UserWarning, match="is rebuilt"):
    assert equal(source, glyphs("validation", cache=tmp_path))
  assert equal(source, glyphs("validation", cache=tmp_path))


def test_a_cache_folder_that_cannot_be_written_only_warns(small, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.warns(UserWarning, match="cannot be written"):
    assert glyphs("validation", cache=tmp_path / "file" / "folder").images.any()


def test_styles_are_shared_out_evenly_over_the_faces():
  styles = collections.Counter(np.array(drawn("test").styles)[drawn("test").labels == 0].tolist())
  assert styles == {"DejaVu Sans": 8, "DejaVu Sans Mono": 8, "DejaVu Serif": 8}


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"split": "dev"}, r"split to be one of 'train', 'validation', 'test', 'all', got 'dev'"),
    ({"families": ("Helvetica",)}, r"got \('Helvetica',\), expected .*'DejaVu Sans'"),
    ({"families": "STIX"}, "got 'STIX', expected None or a tuple"),
    ({"families": ()}, r"got \(\), expected None or a tuple"),
    ({"size": 4}, "size to be a whole number from 8 to 512, got 4"),
    ({"seed": -1}, "seed to be a whole number from 0 to 18446744073709551615, got -1"),
    ({"distortion": -0.5}, "distortion to be from 0 to 100, got -0.5"),
    ({"distortion": float("nan")}, "distortion to be from 0 to 100, got nan"),
  ],
)
def test_a_bad_argument_is_quoted_with_what_was_expected(arguments, message):
  with pytest.raises(ValueError, match=message):
    glyphs(**arguments)


def test_missing_typefaces_are_named(monkeypatch):
  monkeypatch.setattr(characters.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(FileNotFoundError, match=r"matplotlib ships.*DejaVuSans\.ttf"):
    glyphs("test")
