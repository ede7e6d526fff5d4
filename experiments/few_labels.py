"""Adapts an image-text model to a few labeled images a class: zero-shot, linear probe, Tip-Adapter, LP++, CoOp, ...

python -m experiments.few_labels runs/clip-glyphs-20261127-124548     # 16 held-out classes, 1 to 16 images of each
python -m experiments.few_labels clip-vit-base-patch32 --data my_photos --ways 5 --shots 1 4

Nothing is chosen by the queries: what a paper tunes on validation or test images is chosen on the support set.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from tyro.conf import Positional

from experiments.families.data import load_split, slug
from experiments.families.image_flags import ImageData
from experiments.families.image_text.data import held_out
from experiments.families.image_text.few_labels import METHODS, Method, augmentation_of, predictor
from experiments.families.image_text.model import Model, read_model
from metajax.data import ImageDataset, prompted_episodes, select_classes
from metajax.data.load import is_own
from metajax.evaluate import Score, few_shot_accuracy, paired_difference, prompts
from metajax.experiment import Record, command, records
from metajax.experiment.bounds import Bounds, Count, DataName, Seed, TwoOrMore
from metajax.experiment.devices import on_devices
from metajax.experiment.evaluators.few_shot import CHUNK_SIZE, TEST_SEED
from metajax.mesh import round_up_to_hosts
from metajax.types import Batches


class Test(NamedTuple):
  """Test tasks.

  Attributes:
    source: Images.
    prompts, names: Tokens of each class's prompts `[classes, prompts, length]`, and of its bare name, for CoOp.
    ways, queries, tasks, seed: Sizes, and the seed of the draws.
    context: Number of context vectors of CoOp.
    drawn: True for images of drawn characters.
    about: Entries of the records.
  """

  source: ImageDataset
  prompts: np.ndarray
  names: np.ndarray
  ways: int
  queries: int
  tasks: int
  seed: int
  context: int
  drawn: bool
  about: dict[str, Any]

  def batches(self, method: Method, shots: int) -> Batches:
    """The tasks with a number of shots, with the prompts of a method."""
    tokens = self.names if method == "coop" else self.prompts
    sizes = {"ways": self.ways, "shots": shots, "queries": self.queries, "seed": self.seed}
    return prompted_episodes(self.source, tokens, meta_batch_size=round_up_to_hosts(CHUNK_SIZE), **sizes)


def main(
  model: Positional[Path],
  methods: tuple[Method, ...] = METHODS,
  ways: TwoOrMore = 16,
  shots: Annotated[tuple[int, ...], *Count.__metadata__] = (1, 2, 4, 8, 16),
  queries: Count = 8,
  num_tasks: TwoOrMore = 100,
  seed: Seed = TEST_SEED,
  data: Annotated[str | None, DataName()] = None,
  split: str = "",
  templates: tuple[str, ...] = ("{}",),
  context: Count = 4,
  tokenizer: Path | None = None,
  image_size: Annotated[int | None, Bounds(1, 4096)] = None,
  download: bool = False,
  devices: Annotated[int | None, *Count.__metadata__] = None,
  record: bool = False,
):
  """Adapts a trained CLIP to a few labeled images a class, by several methods on the same tasks.

  Prints the accuracy of each method by the number of images, and its lead over zero-shot classification, paired by
  task.

  Args:
    model: Run folder of experiments.clip, or a folder or .safetensors file with the weights of a published CLIP.
    methods: Methods to compare.
    ways: Classes per task.
    shots: Numbers of labeled images per class.
    queries: Query images per class.
    num_tasks: Number of tasks for each number of labeled images.
    seed: Random seed of the tasks.
    data: Data set or folder of images; by default the held-out classes of the run.
    split: Split of the data, such as "test"; by default all images of a folder, and the test classes of a data set.
    templates: Prompt templates with a placeholder {} for the class name; their embeddings are averaged. CoOp uses the
      bare names.
    context: Number of context vectors of CoOp.
    tokenizer: Tokenizer of a published model; by default the one in the model's folder.
    image_size: Side of the input images in pixels, for a published model; by default that of its training.
    download: Download TFDS data that is missing.
    devices: Number of devices that share the tasks; by default all.
    record: Write the records to experiments/results and rebuild experiments/README.md.
  """
  if not methods or not shots:
    raise ValueError("expected --methods and --shots, got none")
  found = read_model(model, tokenizer, image_size)
  images, source = _source(found, data, split, download)
  source = _large_enough(source, max(shots) + queries)
  of_prompts = _tokens(found, source, templates)
  names = _names(found, source, context) if "coop" in methods else of_prompts
  about: dict[str, Any] = {
    "data": slug(images),
    "split": images.split or "held-out classes",
    "classes": len(source.classes),
  }
  about |= {"policy": "running statistics", **found.said}
  test = Test(source, of_prompts, names, ways, queries, num_tasks, seed, context, found.inverted, about)
  with on_devices(devices):
    measured = _compared(found, test, methods, shots)
  if record:
    records.publish(records.home(main), f"few_labels-{slug(images)}", [records.flat(one) for one in measured])


def _compared(found: Model, test: Test, methods: Sequence[Method], shots: Sequence[int]) -> list[Record]:
  """Prints and returns the scores of all methods at all numbers of shots."""
  measured, table = [], {}
  for count in shots:
    test.batches("zero_shot", count)  # raises before the first result if there are too few classes
  for count in shots:
    table[count] = {one: _score(found, one, test, count) for one in dict.fromkeys(("zero_shot", *methods))}
    measured += _records(table[count], test, count)
    _tell(table[count], test, count)
  _tell_all(table)
  return measured


def _source(found: Model, data: str | None, split: str, download: bool) -> tuple[ImageData, ImageDataset]:
  """The flags of the test images, and the images."""
  if data is None:
    if found.data is None or split:
      raise ValueError("expected --data with published weights, or with --split, got none")
    return found.data._replace(split=""), held_out(found.data._replace(download=download))
  own = is_own(data, None, download)
  if own and found.inverted:
    raise ValueError(f"expected drawn characters for a model of glyphs, got {data!r}")
  images = ImageData(data, split or ("official/all" if own else "test"), size=found.size, download=download)
  return images, load_split(images, images.split, found.preprocessing)


def _large_enough(source: ImageDataset, least: int) -> ImageDataset:
  """The source without classes that are too small for the largest number of shots."""
  enough = np.flatnonzero(np.bincount(source.labels, minlength=len(source.classes)) >= least)
  if len(enough) < len(source.classes):
    print(f"left out {len(source.classes) - len(enough)} of {len(source.classes)} classes of fewer than {least} images")
  if not len(enough):
    raise ValueError(f"expected classes of at least {least} images, for the support and the queries, got none")
  return select_classes(source, enough)


def _class_names(source: ImageDataset) -> list[str]:
  return [texts[0] for texts in source.captions] if source.captions else [x.replace("_", " ") for x in source.classes]


def _tokens(found: Model, source: ImageDataset, templates: Sequence[str]) -> np.ndarray:
  """Tokens `[classes, prompts, length]` of each class's prompts, without common padding if it has no effect."""
  texts, _ = prompts(_class_names(source), templates)
  tokens = found.tokenize(texts)
  if found.padded:
    return tokens.reshape(len(source.classes), len(templates), -1)
  longest = 1 + int(np.max(np.argmax(tokens == tokens.max(), axis=1)))  # the end of text is the last of the vocabulary
  return tokens[:, :longest].reshape(len(source.classes), len(templates), -1)


def _names(found: Model, source: ImageDataset, context: int) -> np.ndarray:
  """Tokens of the bare class names, with room for context vectors."""
  if found.padded:
    raise ValueError("expected --methods without coop for a SigLIP, whose texts have no place for context, got coop")
  tokens = _tokens(found, source, ("{}",))
  if tokens.shape[2] + context > found.max_length:
    room = f"at most {found.max_length - context} tokens beside --context {context}"
    raise ValueError(f"expected class names of {room}, got one of {tokens.shape[2]}")
  return tokens


def _score(found: Model, method: Method, test: Test, shots: int) -> Score:
  width = found.params["text"]["tokens"]["embedding"].shape[1]
  scale = float(np.exp(found.params["log_scale"]))
  predict = predictor(method, found.learner.embed, found.text, width, test.context, augmentation_of(test.drawn), scale)
  batches, learner = test.batches(method, shots), found.learner._replace(predict=predict)
  return few_shot_accuracy(learner, found.params, found.state, batches, test.tasks)


def _records(scores: Mapping[Method, Score], test: Test, shots: int) -> list[Record]:
  """The accuracy of each method, and its lead over zero-shot classification."""
  sizes = {"ways": test.ways, "shots": shots, "queries": test.queries, "tasks": test.tasks, "test_seed": test.seed}
  about, measured = test.about | sizes, []
  for method, score in scores.items():
    chance = {"chance": round(100 / test.ways, 2)}
    measured.append(
      Record("clip", "accuracy", round(score.mean, 2), round(score.ci95, 2), (method,), None, about | chance)
    )
    if method != "zero_shot":
      lead = paired_difference(score, scores["zero_shot"])
      value = (round(lead.mean, 2), round(lead.ci95, 2))
      measured.append(Record("clip", "points_ahead_of_zero_shot", *value, (method,), None, about))
  return measured


def _tell(scores: Mapping[Method, Score], test: Test, shots: int):
  print(f"\n{test.ways}-way {shots}-shot accuracy, {test.tasks} tasks; lead over zero-shot, paired by task")
  for method, score in scores.items():
    lead = "" if method == "zero_shot" else f"  {paired_difference(score, scores['zero_shot'])}"
    print(f"  {method:<14} {score}%{lead}", flush=True)


def _tell_all(table: Mapping[int, Mapping[Method, Score]]):
  """Prints the accuracy of each method by the number of shots."""
  print("\n" + f"{'shots':<16}" + "".join(f"{shots:>8}" for shots in table))
  for method in next(iter(table.values())):
    print(f"{method:<16}" + "".join(f"{scores[method].mean:>8.2f}" for scores in table.values()))


if __name__ == "__main__":
  command(main)
