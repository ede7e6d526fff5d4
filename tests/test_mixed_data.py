"""Pretraining on several sources by weight: `--data a=0.7 b=0.3`, tested on the first."""

import itertools

import numpy as np
import pytest
from PIL import Image
from tar_shards import write_shards

from experiments import clip, generative, pretext, prototypical, simclr
from experiments.families import mixing
from experiments.families.image_flags import ImageData
from experiments.families.image_text import data as captioned
from experiments.families.image_text import experiment as of_clip
from experiments.families.representation.data import load_mixed
from experiments.families.representation.experiment import without_labels
from metajax import data
from metajax.experiment.command_line import parse


def folder(path, value, classes=8, each=6):
  for kind, i in itertools.product(range(classes), range(each)):
    name = path / f"{path.name}{kind}" / f"{i}.png"
    name.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value + i, np.uint8)).save(name)
  return str(path)


def simclr_of(*arguments):
  return parse(simclr.build, simclr.PRESETS, ["--preset", "cpu", *arguments]).setup


def test_data_with_weights_are_the_first_source_and_the_mixture():
  setup = simclr_of("--data", "a=0.7", "b/c=d=3e-1", "--size", "8")
  assert (setup.data.data, setup.mix, setup.data.size) == ("a", ("a=0.7", "b/c=d=3e-1"), 8)
  assert setup == simclr_of("--data", "a", "--mix", "a=0.7", "b/c=d=3e-1", "--size", "8")
  assert mixing.mixed_slug(setup.data, setup.mix) == "a=0.7+b_c=d=0.3"
  alone = simclr_of("--data", "lr=0.1")
  assert (alone.data.data, alone.mix, mixing.mixed_slug(alone.data, alone.mix)) == ("lr=0.1", (), "lr=0.1")
  with pytest.raises(ValueError, match=r"expected one --data here, as only pretraining mixes several, got a=1 b=2"):
    parse(prototypical.build, prototypical.PRESETS, ["--data", "a=1", "b=2"])


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (("a=1", "b"), "expected a weight for each of several sources, such as --data a=0.7 b=0.3, got 'b'"),
    (("a", "b=1"), "expected a weight for each .* got 'a'"),
    (("a=1", "b="), "expected a weight for each .* got 'b='"),
    (("a=1", "b=0"), "expected a positive weight of 'b' in --data, got 0"),
    (("a=1", "b=-2"), "expected a positive weight of 'b' in --data, got -2"),
    (("a=1", "b=nan"), "expected a positive weight of 'b' in --data, got nan"),
    (("a=1", "a=2"), "expected different sources in a mixture, got 'a' twice"),
  ],
)
def test_a_mixture_without_positive_weights_is_refused_before_data_are_loaded(given, message):
  with pytest.raises(ValueError, match=message):
    simclr.build(parse(simclr.build, simclr.PRESETS, ["--preset", "cpu", "--size", "32", "--data", *given]))
  with pytest.raises(ValueError, match=message):
    clip.build(parse(clip.build, clip.PRESETS, ["--preset", "cpu", "--data", *given]))


def test_what_cannot_be_mixed_is_refused(tmp_path):
  photos = folder(tmp_path / "a", 0)
  with pytest.raises(ValueError, match="--mix of two sources or more, --data a among them, got b=1 c=1"):
    load_mixed(ImageData("a"), ("b=1", "c=1"), "auto")
  with pytest.raises(ValueError, match=r"images of one shape in a mixture, 28x28x3 as of .*, got 28x28x1 of glyphs"):
    load_mixed(ImageData(photos), (f"{photos}=1", "glyphs=1"), "auto")
  with pytest.raises(ValueError, match="one --data for --task shuffle_and_learn, as clips are not mixed, got a=1 b=1"):
    pretext.build(parse(pretext.build, pretext.PRESETS, ["--task", "shuffle_and_learn", "--data", "a=1", "b=1"]))
  with pytest.raises(ValueError, match="one --data for --model gpt, as texts are not mixed, got a=1 b=1"):
    generative.build(parse(generative.build, generative.PRESETS, ["--model", "gpt", "--data", "a=1", "b=1"]))


def test_batches_hold_each_source_by_its_weight_and_the_tests_the_first_alone(tmp_path, capsys):
  first, second = folder(tmp_path / "a", 0), folder(tmp_path / "b", 100, classes=2)
  setup = simclr_of("--data", f"{first}=3", f"{second}=1", "--size", "8", "--batch-size", "20")
  parts = load_mixed(setup.data, setup.mix, "auto")
  assert all(name.startswith("a") for part in (parts.train, parts.test) for name in part.classes)
  assert f"mixture: 75.0% {first} (" in capsys.readouterr().out
  batches = itertools.islice(without_labels(parts.mixed, setup, 0)(), 50)
  assert sum((batch[:, 0, 0, 0] >= 100).sum() for batch in batches) == 250


def test_clip_learns_its_words_and_batches_from_all_sources(tmp_path):
  def shifted(number, members):
    return [members[0], (members[1][0], f"other {number}".encode())]

  a = write_shards(tmp_path / "a", shards=2, each=10)
  b = write_shards(tmp_path / "b", shards=2, each=10, change=shifted)
  flags = ImageData(a, size=8)
  found = captioned.load_data(flags, False, 0, mix=(f"{a}=1", f"{b}=1"))
  assert [len(one.images) for one in found.mixed.sources] == [12, 12] and found.train is found.mixed.sources[0]
  texts = list(of_clip._texts_of(found.mixed))
  assert sum(text.startswith("other") for text in texts) == 12
  tokenizer = data.train_tokenizer(texts, 300)
  tokens = next(data.image_texts(found.mixed, tokenizer, batch_size=24, max_length=24)()).second
  words = [tokenizer.text(row).split()[0] for row in tokens]
  assert set(words) == {"caption", "other"}
  with pytest.raises(ValueError, match="no --permuted with a mixture"):
    captioned.load_data(flags, True, 0, mix=(f"{a}=1", f"{b}=1"))
