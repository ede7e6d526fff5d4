"""Learning methods: one factory per file, named after its paper; each returns a `Learner`."""

from metajax.learners._adaptation import QueryNorm
from metajax.learners.anil import anil
from metajax.learners.augmentation import preprocessed, with_augmentation
from metajax.learners.bert import bert, next_sentence_logits
from metajax.learners.cavia import cavia
from metajax.learners.clip import clip
from metajax.learners.gpt import gpt, log_prob
from metajax.learners.image_gpt import image_gpt, pixel_log_prob
from metajax.learners.imaml import imaml
from metajax.learners.maml import maml
from metajax.learners.maml_plus_plus import maml_plus_plus
from metajax.learners.masked_autoencoder import masked_autoencoder, reconstruct
from metajax.learners.matching import matching
from metajax.learners.meta_sgd import meta_sgd
from metajax.learners.pretext import pretext, pretext_logits
from metajax.learners.proto_maml import proto_maml
from metajax.learners.prototypical import prototypical
from metajax.learners.r2d2 import r2d2
from metajax.learners.relation import relation
from metajax.learners.reptile import reptile
from metajax.learners.sampling import longer, next_token, sample
from metajax.learners.siamese import siamese
from metajax.learners.simclr import simclr, supervised_contrastive
from metajax.learners.supervised import supervised
from metajax.learners.triplet import triplet

__all__ = [
  "QueryNorm",
  "anil",
  "bert",
  "cavia",
  "clip",
  "gpt",
  "image_gpt",
  "imaml",
  "log_prob",
  "longer",
  "maml",
  "maml_plus_plus",
  "masked_autoencoder",
  "matching",
  "meta_sgd",
  "next_sentence_logits",
  "next_token",
  "pixel_log_prob",
  "preprocessed",
  "pretext",
  "pretext_logits",
  "proto_maml",
  "prototypical",
  "r2d2",
  "reconstruct",
  "relation",
  "reptile",
  "sample",
  "siamese",
  "simclr",
  "supervised",
  "supervised_contrastive",
  "triplet",
  "with_augmentation",
]
