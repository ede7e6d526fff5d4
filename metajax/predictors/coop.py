"""CoOp (arXiv:2109.01134): learned context vectors in the prompts of an image-text model."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from metajax import checks
from metajax.losses import cross_entropy
from metajax.predictors.image_text import check_embed, prompts_of
from metajax.predictors.logits import without_empty_ways
from metajax.similarity import cosines
from metajax.types import Adapt, Array, EmbedFn, Examples, PredictFn


def coop(
  embed: EmbedFn,
  embed_prompt: Callable[..., Array],
  adapt: Adapt,
  context: Array,
  *,
  class_specific: bool = False,
  scale: float = 100.0,
) -> PredictFn:
  """CoOp (arXiv:2109.01134): the prompt of a class is learned vectors, then its name; the model stays frozen.

      t_k = text([start, v_1, ..., v_m, name of k, end]),   minimize over v  cross_entropy(scale cos(f(x), t_k))

  Args:
    embed: `(params, state, images) -> [n, d]`, e.g. the `embed` of `learners.clip`.
    embed_prompt: `(params, state, tokens, context) -> [ways, d]`, the text tower with context vectors in place of the
      tokens from the second one on. With `text = networks.text_transformer(...)` in a `learners.clip`:
      `lambda params, state, *prompt: text.apply(params["text"], state["text"], *prompt, train=False)[0]`.
    adapt: Inner loop of the vectors, in the paper SGD from 2e-3 along a cosine for 50 to 200 epochs.
    context: Vectors to start from, `[m, width of the text tower]`: random ones of deviation 0.02, or the embedded
      tokens of "a photo of a".
    class_specific: Learn vectors for each class, in place of vectors that all classes share.
    scale: Factor of the cosines, above 0; CLIP's is 100.

  Returns:
    A `predict` for a support set of pairs, as of `zero_shot`. The tokens are bare class names, one prompt each; trim
    their padding, as the text tower takes `m` tokens more.

  Raises:
    TypeError, ValueError: as for `zero_shot`, and if `embed_prompt` or `adapt` is not a function, or `context` not
      floating `[m, width]`; when called, if there are several prompts of a class.
  """
  check_embed(embed, scale)
  checks.function("embed_prompt", embed_prompt, "(params, state, tokens, context) -> [n, d]")
  checks.function("adapt", adapt, "such as gradient_steps(optax.sgd(2e-3), 50)")
  checks.floating("context", context, "m", "width")
  checks.flag("class_specific", class_specific)
  start: Any = np.asarray(context) if checks.is_concrete(context) else context  # it may lie on another mesh

  def predict(params, state, support, inputs):
    prompts = prompts_of(support)
    if prompts.shape[1] > 1:
      raise ValueError(f"expected one prompt for each class, got {prompts.shape[1]}")
    tokens = with_context(prompts[:, 0], len(start))

    def logits(learned, features):
      texts = embed_prompt(params, state, tokens, learned)
      return without_empty_ways(scale * cosines(features, texts), support.labels)

    def loss(learned, known):
      return cross_entropy(logits(learned, known.inputs), known.labels)

    features = embed(params, state, support.inputs.first)
    first = jnp.broadcast_to(start, (len(tokens), *start.shape)) if class_specific else jnp.asarray(start)
    adapted, _ = adapt(loss, first, Examples(features, support.labels))
    return logits(adapted, embed(params, state, inputs))

  return predict


def with_context(tokens: Array, count: int) -> Array:
  """Makes room for `count` context vectors after the first token, the start of text: `[n, t] -> [n, count + t]`.

  The new tokens repeat the first one, and are not used where a text tower is given the vectors.

  Raises:
    ValueError: if tokens are not integers `[n, t]`, or `count` is below 1.
  """
  checks.count("count", count)
  checks.integers("tokens", tokens, "n", "t", low=0)
  return jnp.concatenate([jnp.repeat(tokens[:, :1], count + 1, axis=1), tokens[:, 1:]], axis=1)
