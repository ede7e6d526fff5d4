"""Predictors on image-text models: the support set pairs each image with the prompts of its class."""

import jax.numpy as jnp

from metajax import checks
from metajax.predictors.logits import without_empty_ways
from metajax.similarity import cosines, unit_rows
from metajax.tree import wide
from metajax.types import Array, EmbedFn, Examples, Pair, Params, PredictFn, State


def zero_shot(embed: EmbedFn, *, scale: float = 100.0) -> PredictFn:
  """Zero-shot classification by the prompts of each class (CLIP, arXiv:2103.00020); images of the support are not used.

      logits_k(x) = scale cos(f(x), t_k),   t_k = mean over prompts of the unit text embeddings

  Args:
    embed: `(params, state, inputs) -> [n, d]` of images and of integer tokens, e.g. the `embed` of `learners.clip`.
    scale: Factor of the cosines, above 0; CLIP's is 100.

  Returns:
    A `predict` for a support set whose inputs are a `Pair` of images `[s, ...]` and the tokens of their class's prompt
    `[s, length]`, or of several prompts `[s, prompts, length]`. Inputs are images `[n, ...]`, logits `[n, ways]`.

  Raises:
    TypeError: if `embed` is not a function.
    ValueError: if `scale` is not above 0; when called, if the support is not such a pair, or labels are not one-hot.

  Example:
    >>> import jax.numpy as jnp
    >>> from metajax import Examples, Pair, predictors
    >>> embed = lambda params, state, x: jnp.eye(3)[x[:, 0]] if x.shape[1] == 2 else x  # of tokens, and of images
    >>> support = Examples(Pair(jnp.zeros((2, 3)), jnp.array([[0, 5], [2, 5]])), jnp.eye(2))
    >>> predictors.zero_shot(embed)({}, {}, support, jnp.eye(3)).argmax(1).tolist()
    [0, 0, 1]
  """
  check_embed(embed, scale)

  def predict(params, state, support, inputs):
    texts = class_texts(embed, params, state, support)
    return without_empty_ways(scale * cosines(embed(params, state, inputs), texts), support.labels)

  return predict


def class_texts(embed: EmbedFn, params: Params, state: State, support: Examples) -> Array:
  """The text classifier of a task: `[ways, d]`, rows of norm 1, the mean of each class's embedded prompts.

  The prompts of a class are those of its first example.

  Args:
    embed: `(params, state, tokens) -> [n, d]`.
    params, state: Those of the learner.
    support: Examples whose inputs are a `Pair` of images and integer tokens `[s, length]` or `[s, prompts, length]`.

  Returns:
    `[ways, d]`, in at least 32 bits. A way without examples has the prompts of the first row.

  Raises:
    ValueError: if the support is not such a pair, or labels are not one-hot `[s, ways]`.
  """
  tokens = prompts_of(support)
  each = unit_rows(wide(embed(params, state, tokens.reshape(-1, tokens.shape[-1]))))
  return unit_rows(each.reshape(*tokens.shape[:-1], each.shape[-1]).mean(1))


def embedded(embed: EmbedFn, params: Params, state: State, support: Examples) -> tuple[Array, Array]:
  """The image features of a support set of pairs `[s, d]`, and the texts of its classes `[ways, d]`: rows of norm 1.

  Raises:
    ValueError: as `class_texts`.
  """
  texts = class_texts(embed, params, state, support)
  return unit_rows(wide(embed(params, state, support.inputs.first))), texts


def prompts_of(support: Examples) -> Array:
  """The prompts of each class, `[ways, prompts, length]`: those of its first example.

  Raises:
    ValueError: as `class_texts`.
  """
  checks.one_hot("support labels", support.labels, 2)
  if not isinstance(support.inputs, Pair):
    raise ValueError(f"expected a support of a Pair of images and tokens, got {checks.describe(support.inputs)}")
  tokens = jnp.asarray(support.inputs.second)
  if not jnp.issubdtype(tokens.dtype, jnp.integer) or tokens.ndim not in (2, 3) or len(tokens) != len(support.labels):
    wanted = f"[{len(support.labels)}, length] or [{len(support.labels)}, prompts, length]"
    raise ValueError(f"expected integer tokens {wanted}, got {tokens.dtype} {list(tokens.shape)}")
  first = jnp.argmax(jnp.asarray(support.labels) != 0, axis=0)
  return jnp.expand_dims(tokens, 1)[first] if tokens.ndim == 2 else tokens[first]


def check_embed(embed: EmbedFn, scale: float):
  """Checks the arguments that predictors on image-text models share.

  Raises:
    TypeError: if `embed` is not a function.
    ValueError: if `scale` is not above 0.
  """
  checks.function("embed", embed, "(params, state, images or tokens) -> [n, d]")
  checks.scalar("a scale", scale)
  checks.positive("a scale", scale)
