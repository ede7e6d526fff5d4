"""Probes a published encoder without training it: a linear probe, nearest neighbors, few-shot tasks.

python -m experiments.probe --encoder dinov2-small --data my_photos
python -m experiments.probe --encoder dinov2-small --data cifar10 --image-size 98 --record

The same network of random params and the pixels are beside it.
"""

from pathlib import Path
from typing import Annotated, Any

import jax

from experiments.families.data import ImageData, slug
from experiments.families.encoder import Start, encoder_for, images_for, read
from experiments.families.few_shot.config import ways_and_shots
from experiments.families.representation.config import Probing
from experiments.families.representation.data import Classes, ProbeSplits, describe, load_parts
from experiments.families.representation.evaluators import SETTLING, about, few_shot_tests
from metajax.data import train_batches
from metajax.experiment import PIXELS, command, records
from metajax.experiment.bounds import Bounds, Count, DataName, TwoOrMore
from metajax.experiment.devices import on_devices
from metajax.experiment.evaluators.probes import PIXELS_AS_FEATURES, Representation, few_shot_all, probe_all
from metajax.experiment.results_page import UNTRAINED
from metajax.pixels import images_to_float
from metajax.predictors import nearest_centroid
from metajax.train import TrainState
from metajax.types import EmbedFn, Learner, Network, Params, State

SMALL = 32  # images of a batch that settles running statistics


def main(
  encoder: Path,
  data: Annotated[str, DataName()],
  image_size: Annotated[int | None, Bounds(8, 4096)] = None,
  classes: Classes = "auto",
  test: tuple[str, ...] = ("5w1s", "5w5s"),
  test_queries: Count = 15,
  test_tasks: TwoOrMore = 1000,
  download: bool = False,
  skip_unreadable: bool = False,
  devices: Annotated[int | None, *Count.__metadata__] = None,
  record: bool = False,
):
  """Probes the frozen features of a published encoder on labeled images.

  Args:
    encoder: Published weights: a .safetensors file or its folder, of a ViT, DeiT, DINOv2, SigLIP, CLIP or ResNet.
    data: Data set or folder of labeled images.
    image_size: Side of the images in pixels, by default the publisher's.
    classes: Classes of the probes: the same in all parts (official splits) or held-out; auto prefers the same.
    test: Few-shot settings, such as 5w1s 20w5s.
    test_queries: Query images per class in a test task.
    test_tasks: Number of test tasks per setting.
    download: Download TFDS data that is missing.
    skip_unreadable: Skip user-supplied files that cannot be read, instead of stopping.
    devices: Number of devices that share the images; by default all.
    record: Write the records to experiments/results and rebuild experiments/README.md.
  """
  start, probing = Start(encoder, image_size), Probing(classes, test, test_queries, test_tasks)
  for each in test:
    ways_and_shots(each)
  form = images_for(start, data, 0)
  images = ImageData(data, size=form.size, download=download, skip_unreadable=skip_unreadable)
  parts = load_parts(images, classes, form.preprocessing)
  describe(images, parts)
  tests = few_shot_tests(images, probing, parts)
  with on_devices(devices):
    shown = _representations(start, parts)
    said = {"train_seconds": 0, "steps": 0, "seed": 0}
    measured = probe_all([*shown, PIXELS_AS_FEATURES], parts.splits, about(images, parts), said, unseen=parts.unseen)
    learners = {one.title: (_learner(one.embed), one.states) for one in shown}
    measured += few_shot_all(learners, tests, said, parts.episodes)
  if record:
    records.publish(records.home(main), f"probe-{slug(images)}", [records.flat(one) for one in measured])


def _representations(start: Start, parts: ProbeSplits) -> list[Representation]:
  """The features of the published encoder, and those of its network with random params."""
  found = read(start)
  assert found is not None and start.encoder is not None
  network = encoder_for(start, found.network, pretrained=False)

  def embed(params, state, inputs):
    return network.apply(params, state, inputs, train=False)[0]

  trained = _state(found.params, found.state)
  random = _state(*_settled(network, parts))
  return [Representation(start.encoder.resolve().name, embed, [trained]), Representation(UNTRAINED, embed, [random])]


def _settled(network: Network, parts: ProbeSplits) -> tuple[Params, State]:
  """Random params, with the running statistics of images, if the network has any."""
  batches = iter(train_batches(parts.train, batch_size=min(SMALL, len(parts.train.labels)), seed=0)())
  first = images_to_float(next(batches).inputs)
  params, state = network.init(jax.random.key(0), first)
  settle = jax.jit(lambda state, inputs: network.apply(params, state, inputs, train=True)[1])
  for _ in range(SETTLING if jax.tree.leaves(state) else 0):
    state = settle(state, images_to_float(next(batches).inputs))
  return params, state


def _state(params: Params, state: State) -> TrainState:
  untrained: tuple[Any, ...] = (None, None, 0)
  return TrainState(params, state, *untrained)


def _learner(embed: EmbedFn) -> Learner:
  return PIXELS.learner._replace(embed=embed, predict=nearest_centroid(embed))


if __name__ == "__main__":
  command(main)
