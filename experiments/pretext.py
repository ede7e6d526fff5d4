"""Pretext tasks: pretraining on self-generated labels, then a linear probe, k-NN and few-shot tests.

python -m experiments.pretext --task rotation --preset cpu --encoder-name conv4_strided --steps 2000
  # glyphs: pretext 50.7 (chance 25), probe 42.6, random encoder 16.0: 2 min on 1 core
python -m experiments.pretext --task rotation --preset cpu_photos --steps 1600
  # CIFAR-10: pretext 77.0 (chance 25), probe 44.9, random encoder 35.3: 18 min on 1 core
python -m experiments.pretext --task shuffle_and_learn --preset cpu_clips --encoder-name conv4_strided --width 0.5
  # sprites: pretext 100 (chance 50), 5-way 1-shot 96.6, random encoder 80.1: 2 min on 1 core
python -m experiments.pretext --task audio_visual --preset cpu_clips --data moving_glyphs --encoder-name conv4_strided \
  --width 0.5     # pretext 94.9 (chance 50), probe 57.9, random encoder 44.6: 7 min on 1 core
"""

from functools import partial
from typing import Annotated, Literal, NamedTuple, cast, get_args

from experiments.families import representation as rep
from experiments.families.pretext import evaluators
from experiments.families.pretext.data import ClipFlags, load_recorded
from experiments.families.pretext.tasks import (
  OfClips,
  OfImages,
  PretextTask,
  Tiles,
  asked_of_clips,
  asked_of_images,
  of_crops,
)
from experiments.families.representation.experiment import parts_of
from metajax.compose import perceptron
from metajax.data import recording_batches, train_batches
from metajax.experiment.bounds import Bounds
from metajax.experiment.former_flags import Former
from metajax.learners import pretext, pretext_logits, supervised

Task = Literal[OfImages, OfClips, "supervised"]


class Config(NamedTuple):
  """Pretrains on a pretext task, and evaluates the task's accuracy and the frozen features."""

  task: Task = "rotation"
  """Pretext task on images, clips or sounds; "supervised" learns the true classes of images, for comparison."""
  hidden: Annotated[int, Bounds(0, 2**16)] = 128
  """Hidden units of the pretext head, which is discarded after pretraining; 0 for a linear head."""
  augmentation: Annotated[Literal["none", "crop"], Former("--crops", "crop")] = "none"
  """Augmentation of the training images; all frames of a clip share one crop."""
  tiles: Tiles = Tiles()
  clips: ClipFlags = ClipFlags()
  encoder: rep.EncoderFlags = rep.EncoderFlags("conv4")
  setup: rep.Setup = rep.Setup()


_ADAMW = rep.Outer(128, "adamw", 2e-3, weight_decay=1e-4, warmup_steps=50)
_CHARACTERS = rep.TRAINING._replace(steps=1500, eval_every=300)
PRESETS = {
  "paper": Config(
    tiles=Tiles(1000, gap=11, jitter=11),
    encoder=rep.EncoderFlags("resnet50", stem="imagenet"),
    setup=rep.Setup(
      data=rep.ImageData(size=224),
      outer=rep.Outer(256, learning_rate=0.1, warmup_steps=5000),
      training=rep.TRAINING._replace(steps=150000, eval_every=10000),
    ),
  ),
  "cpu": Config(setup=rep.Setup(outer=_ADAMW, training=_CHARACTERS)),
  "cpu_photos": Config(
    encoder=rep.EncoderFlags("resnet10", 0.25),
    setup=rep.Setup(
      data=rep.ImageData(data="cifar10", size=32),
      outer=_ADAMW._replace(warmup_steps=100),
      training=_CHARACTERS._replace(steps=2400, eval_every=600),
    ),
  ),
  "cpu_clips": Config(
    setup=rep.Setup(
      data=rep.ImageData(data="sprites", size=32),
      outer=_ADAMW._replace(batch_size=64),
      training=_CHARACTERS._replace(steps=1200),
    ),
  ),
}


def asked_of(config: Config) -> PretextTask:
  """The pretext task of a config."""
  if config.task in get_args(OfClips):
    return asked_of_clips(cast(OfClips, config.task), config.clips)
  return asked_of_images(cast(OfImages, config.task), config.tiles)


def build(config: Config) -> rep.Experiment:
  """Pretext task, or supervised training for comparison."""
  setup, network = config.setup, rep.encoder_of(config.encoder)
  if config.task == "supervised":
    learner = supervised(network)
    return rep.representation_experiment(setup, "supervised", learner, network, draw=_nothing, batches=_labeled)
  if setup.mix and config.task in get_args(OfClips):
    raise ValueError(f"expected one --data for --task {config.task}, as clips are not mixed, got {' '.join(setup.mix)}")
  of_clips, name = config.task in get_args(OfClips), config.task.replace("_", " ")
  asked = asked_of(config)
  network, head = asked.prepare(network), perceptron(config.hidden, len(asked.classes))
  task, answer = of_crops(asked.task) if config.augmentation == "crop" else asked.task, pretext_logits(network, head)
  load = partial(load_recorded, setup.data, setup.probing, config.clips, config.task == "audio_visual")
  parts = parts_of(setup, load if of_clips else None)

  def draw(folder, trained, parts):
    path, state = folder / "asked.png", trained.states[0]
    question, of = asked.questions(parts)[0], (state.params, state.state)
    evaluators.figure(question, answer, of, asked.classes, asked.show, path)
    return [("Pretext task", "Held-out questions of the pretext task, and the network's answers.", path)]

  return rep.representation_experiment(
    setup,
    name,
    pretext(task, network, head, look=asked.look),
    network,
    draw=draw,
    parts=parts,
    batches=_recorded if of_clips else rep.without_labels,
    scores=evaluators.PretextAccuracy(name, asked.questions, answer, parts, setup.data),
  )


def _nothing(*given):
  return []


def _labeled(source, setup, seed):
  return train_batches(source, batch_size=setup.outer.batch_size, seed=seed)


def _recorded(source, setup, seed):
  return recording_batches(source, batch_size=setup.outer.batch_size, seed=seed)


if __name__ == "__main__":
  rep.main(build, PRESETS)
