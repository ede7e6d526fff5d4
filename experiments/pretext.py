"""Pretext tasks: pretraining on labels that are invented, then a linear probe, neighbours, few shots.

python -m experiments.pretext --task rotation --budget cpu --encoder-name conv4_strided --steps 2000
  # glyphs: asked 50.7 (chance 25), probe 42.6, random encoder 16.0: 2 min on 1 core
python -m experiments.pretext --task rotation --budget cpu_photos --steps 1600
  # CIFAR-10: asked 77.0 (chance 25), probe 44.9, random encoder 35.3: 18 min on 1 core
python -m experiments.pretext --task shuffle_and_learn --budget cpu_clips --encoder-name conv4_strided --width 0.5
  # sprites: asked 100 (chance 50), 5-way 1-shot 96.6, random encoder 80.1: 2 min on 1 core
python -m experiments.pretext --task audio_visual --budget cpu_clips --data moving_glyphs --encoder-name conv4_strided \
  --width 0.5     # asked 94.9 (chance 50), probe 57.9, random encoder 44.6: 7 min on 1 core
"""

from functools import partial
from typing import Literal, get_args

from experiments import command_line, pretext_scores
from experiments.encoders import Encoder, encoder
from experiments.pretext_data import ClipFlags, load_recorded
from experiments.pretext_tasks import OfClips, OfPictures, asked_of_clips, asked_of_pictures, of_crops
from experiments.pretraining import Method, Setting, experiment, without_labels
from experiments.pretraining_data import load_parts
from experiments.runs import RUN, RunFlags
from metajax.compose import perceptron
from metajax.data import examples, recordings
from metajax.learners import answers, pretext, supervised
from metajax.networks.linen.resnet import Stem

Task = Literal[OfPictures, OfClips, "supervised"]

_LETTERS = Setting(batch_size=128, steps=1500, optimizer="adamw", rate=2e-3, decay=1e-4, warmup=50, curve_every=300)
_PHOTOS = _LETTERS._replace(data="cifar10", size=32, steps=2400, warmup=100, curve_every=600)
BUDGETS = {
  "paper": {
    "setting": Setting(size=224, batch_size=256, steps=150000, rate=0.1, warmup=5000, curve_every=10000),
    "encoder_name": "resnet50",
    "stem": "imagenet",
    "permutations": 1000,
    "gap": 11,
    "jitter": 11,
  },
  "cpu": {"setting": _LETTERS},
  "cpu_photos": {"setting": _PHOTOS, "encoder_name": "resnet10", "width": 0.25},
  "cpu_clips": {"setting": _LETTERS._replace(data="sprites", size=32, batch_size=64, steps=1200)},
}


def method(
  task: Task = "rotation",
  encoder_name: Encoder = "conv4",
  width: float = 1.0,
  stem: Stem = "cifar",
  patch: int = 4,
  bfloat16: bool | None = None,
  hidden: int = 128,
  permutations: int = 24,
  grid: int = 3,
  gap: int = 1,
  jitter: int = 1,
  crops: bool = False,
  clips: ClipFlags = ClipFlags(),  # noqa: B008  (it is immutable)
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """Pretraining on invented labels, how well the network answers what it was asked, and what its features are worth.

  Args:
    task: what is asked: of pictures, of clips, or of sounds; supervised, for comparison: the true classes of pictures.
    encoder_name: conv4, conv4_strided, resnet10 to resnet101, vit_ti to vit_l.
    width: a multiple of the filters.
    stem: of a residual network: imagenet, or cifar for small pictures.
    patch: of a vision transformer.
    bfloat16: compute in bfloat16; by default where there is an accelerator.
    hidden: units of the head, which is left behind; 0: it is linear.
    permutations: of jigsaw.
    grid: tiles along a side, of jigsaw.
    gap: least number of pixels between tiles.
    jitter: pixels that a tile may be moved by.
    crops: train on random crops of what is seen, of a clip's frames the same one: where there is little to learn from.
    clips: flags of data that are clips, or pictures with sounds.
    setting: flags that every pretraining experiment has.
    run: flags that every experiment has.
  """
  network = encoder(encoder_name, width, stem, patch, bfloat16)
  if task == "supervised":
    return _supervised(network)
  of_clips = task in get_args(OfClips)
  tiles = permutations, grid, gap, jitter
  asked = asked_of_clips(task, clips) if of_clips else asked_of_pictures(task, *tiles)
  network, head = asked.prepare(network), perceptron(hidden, len(asked.classes))
  task_of = of_crops if crops else lambda task: task
  learner, answer = pretext(task_of(asked.task), network, head, look=asked.look), answers(network, head)
  name = task.replace("_", " ")

  def scores(trained, parts, s, how):
    print(f"\n{name}, about what was not trained on")
    return [
      pretext_scores.record_of(name, question, pretext_scores.scores_of(question, answer, trained), parts, s, how)
      for question in asked.questions(parts)
    ]

  def figures(folder, trained, parts):
    path = folder / "asked.png"
    pretext_scores.figure(asked.questions(parts)[0], answer, trained, asked.classes, asked.show, path)
    return [("Asked and answered", "Questions about what was not trained on, and the answers.", path)]

  load = partial(load_recorded, clips=clips, sound=task == "audio_visual") if of_clips else load_parts
  batches = recorded if of_clips else without_labels
  return Method(name, learner, {"": learner.embed}, network, figures, load, batches, scores)


def recorded(source, s, seed):
  """Batches of recordings."""
  return recordings(source, batch_size=s.batch_size, seed=seed)


def _supervised(network) -> Method:
  """The same network and budget with true labels, to compare with."""
  learner = supervised(network)
  with_labels = lambda source, s, seed: examples(source, batch_size=s.batch_size, seed=seed)
  return Method("supervised", learner, {"": learner.embed}, network, lambda *given: [], batches=with_labels)


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
