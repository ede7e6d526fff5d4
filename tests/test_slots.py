"""A slot given another kind of value says which, and what it expects, before anything is made."""

import flax.linen as nn
import optax
import pytest
from flax import nnx

from metajax import gradient_steps, learners
from metajax.augment.image import affine
from metajax.compose import (
  chunked,
  concat_context,
  film,
  frozen,
  on_pairs,
  parallel,
  tied,
  with_head,
  with_preprocessing,
  with_pretrained_params,
)
from metajax.networks import mlp
from metajax.predictors import adapted_head, fine_tuned, nearest_centroid, nearest_neighbor, normalized, ridge
from metajax.pretexts import rotation

LINEN, NNX = nn.Dense(3), nnx.Linear(2, 3, rngs=nnx.Rngs(0))
network, adapt = mlp((4,), 3), gradient_steps(optax.sgd(0.1), 1)
view = affine()
NETWORKS = {  # of a value in the place of a network, and the name of that place
  "anil": (lambda x: learners.anil(x, network, adapt), "encoder"),
  "anil, head": (lambda x: learners.anil(network, x, adapt), "head"),
  "cavia": (lambda x: learners.cavia(x, 2, adapt), "network"),
  "clip": (lambda x: learners.clip(x, network), "image"),
  "clip, text": (lambda x: learners.clip(network, x), "text"),
  "gpt": (learners.gpt, "network"),
  "bert": (lambda x: learners.bert(x, 16), "network"),
  "image_gpt": (lambda x: learners.image_gpt(x, [[0.0]]), "network"),
  "imaml": (lambda x: learners.imaml(x, optax.sgd(0.1)), "network"),
  "maml": (lambda x: learners.maml(x, adapt), "network"),
  "maml, encoder": (lambda x: learners.maml(network, adapt, encoder=x), "encoder"),
  "maml_plus_plus": (learners.maml_plus_plus, "network"),
  "masked_autoencoder": (lambda x: learners.masked_autoencoder(x, network), "encoder"),
  "masked_autoencoder, decoder": (lambda x: learners.masked_autoencoder(network, x), "decoder"),
  "matching": (learners.matching, "network"),
  "meta_sgd": (learners.meta_sgd, "network"),
  "pretext": (lambda x: learners.pretext(rotation(), x, network), "encoder"),
  "pretext, named": (lambda x: learners.pretext(rotation(), {"seen": x}, network), "seen"),
  "proto_maml": (lambda x: learners.proto_maml(x, adapt), "encoder"),
  "prototypical": (learners.prototypical, "network"),
  "r2d2": (learners.r2d2, "network"),
  "relation": (lambda x: learners.relation(x, network), "network"),
  "relation, module": (lambda x: learners.relation(network, x), "module"),
  "reptile": (lambda x: learners.reptile(x, adapt), "network"),
  "siamese": (learners.siamese, "network"),
  "simclr": (lambda x: learners.simclr(x, network, view), "encoder"),
  "supervised": (learners.supervised, "encoder"),
  "supervised_contrastive": (lambda x: learners.supervised_contrastive(network, x, view), "head"),
  "triplet": (learners.triplet, "network"),
  "parallel": (lambda x: parallel(left=network, right=x), "right"),
  "chunked": (lambda x: chunked(x, 2), "network"),
  "concat_context": (concat_context, "network"),
  "frozen": (frozen, "network"),
  "film": (lambda x: film(network, x), "after"),
  "on_pairs": (on_pairs, "network"),
  "with_preprocessing": (lambda x: with_preprocessing(x, abs), "network"),
  "with_pretrained_params": (lambda x: with_pretrained_params(x, {}), "network"),
  "tied": (tied, "encoder"),
  "with_head": (lambda x: with_head(x, network), "encoder"),
}
ADAPTS = {
  "anil": lambda x: learners.anil(network, network, x),
  "cavia": lambda x: learners.cavia(network, 2, x),
  "maml": lambda x: learners.maml(network, x),
  "proto_maml": lambda x: learners.proto_maml(network, x),
  "reptile": lambda x: learners.reptile(network, x),
  "adapted_head": lambda x: adapted_head(lambda *given: given, x),
  "fine_tuned": lambda x: fine_tuned(lambda *given: given, x),
}
FUNCTIONS = {  # of a value in the place of a function, and the name of that place
  "with_augmentation": (lambda x: learners.with_augmentation(learners.prototypical(network), x), "augmentation"),
  "preprocessed": (lambda x: learners.preprocessed(learners.prototypical(network), x), "prepare"),
  "clip": (lambda x: learners.clip(network, network, augmentation=x), "augmentation"),
  "maml, loss": (lambda x: learners.maml(network, adapt, loss=x), "loss"),
  "maml, init_head": (lambda x: learners.maml(network, adapt, init_head=x), "init_head"),
  "pretext": (lambda x: learners.pretext(x, network, network), "task"),
  "siamese": (lambda x: learners.siamese(network, augmentation=x), "augmentation"),
  "simclr": (lambda x: learners.simclr(network, network, x), "augmentation"),
  "supervised": (lambda x: learners.supervised(network, x), "predictor"),
  "triplet": (lambda x: learners.triplet(network, predictor=x), "predictor"),
  "nearest_centroid": (nearest_centroid, "embed"),
  "nearest_neighbor": (nearest_neighbor, "embed"),
  "normalized": (normalized, "embed"),
  "ridge": (ridge, "embed"),
}


def test_the_table_holds_every_learner():
  factories = {name.split(",")[0] for name in NETWORKS}
  others = {"QueryNorm", "pretext_logits", "log_prob", "longer", "next_token", "pixel_log_prob"}
  others |= {"next_sentence_logits"}
  others |= {"with_augmentation", "preprocessed"}
  assert set(learners.__all__) - others - {"reconstruct", "sample"} <= factories


@pytest.mark.parametrize("name", NETWORKS)
def test_a_module_in_the_place_of_a_network_is_refused_by_name(name):
  make, slot = NETWORKS[name]
  for odd, said in ((LINEN, "a Dense"), (NNX, "a Linear"), (3, "3")):
    with pytest.raises(TypeError, match=rf"expected {slot} to be a Network, got {said}: networks.from_linen\(module\)"):
      make(odd)


@pytest.mark.parametrize("name", ADAPTS)
def test_an_optimizer_in_the_place_of_an_inner_loop_is_refused_by_name(name):
  with pytest.raises(TypeError, match=r"expected adapt to be a function, such as gradient_steps\(.*, got a Gradient"):
    ADAPTS[name](optax.sgd(0.1))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_cannot_be_called_in_the_place_of_a_function_is_refused_by_name(name):
  make, slot = FUNCTIONS[name]
  for odd in (3, "affine"):
    with pytest.raises(TypeError, match=rf"expected {slot} to be a function, .*, got {odd!r}"):
      make(odd)


def test_a_network_in_the_place_of_a_learner_is_refused_by_name():
  with pytest.raises(TypeError, match="expected learner to be a Learner, got a Network"):
    learners.with_augmentation(network, view)
  with pytest.raises(TypeError, match="expected learner to be a Learner, got a Network"):
    learners.preprocessed(network, abs)
