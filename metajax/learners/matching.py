"""Matching networks (Vinyals et al. 2016, arXiv:1606.04080)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from metajax import checks
from metajax.learners._checks import check_rows
from metajax.learners._comparison import by_comparison
from metajax.predictors import attention, attention_logits
from metajax.types import Array, Key, Learner, Network


def matching(network: Network, *, read_steps: int = 0, scale: float = 1.0, chunk_size: int | None = None) -> Learner:
  """Matching networks: learn an embedding for classification by attention over the support set (arXiv:1606.04080).

      P(k | x) = sum_{i of class k} a(x, x_i),   a(x, x_i) = softmax_i scale cos(f(x), g(x_i))

  Training minimizes the query's negative log-likelihood; logits are `log P`, up to a constant. Without full context `f`
  and `g` are the network. With it (`read_steps` above 0), for the network's `f'`:

  - `g(x_i, S)` adds to `f'(x_i)` the outputs of a bidirectional LSTM over the support set, in its order;
  - `f(x, S)` is an LSTM with `f'(x)` as input at each of `read_steps` steps, which reads the support by attention:

        h_k, c_k = LSTM(f'(x), [h_{k-1}, r_{k-1}], c_{k-1}),  h_k += f'(x),  r_k = sum_i softmax_i(h_k . g(x_i)) g(x_i)

    from `h_0 = c_0 = 0`. The prediction then also depends on the order of the support set, still not on other queries.

  Batch norm as in `prototypical`: the prediction is inductive. Any number of ways and shots.

  Args:
    network: Inputs `[n, ...]` to embeddings `[n, d]`.
    read_steps: Number of steps of the attention LSTM, about 10 in the paper; 0 for no full context.
    scale: Factor of the cosines, 1 in the paper, which bounds `P` by 65% with 5 classes; 10 trains faster.
    chunk_size: Number of tasks per vectorized group.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns logits `[n, ways]`.

  Raises:
    TypeError, ValueError: As `prototypical`, or if `read_steps` is below 0.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import Episode, Examples, learners, networks
    >>> learner = learners.matching(networks.mlp((4,), 2), read_steps=2, scale=10.0)
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
  """
  checks.count("read_steps", read_steps, 0)
  checks.scalar("a scale", scale)
  checks.positive("a scale", scale)

  def init(key, support, labels, queries):
    check_rows(support)
    if not read_steps:
      return {}, {}
    width, kind = support.shape[-1], support.dtype
    hidden = {"forward": width, "backward": width, "read": 2 * width}
    keys = jax.random.split(key, len(hidden))
    return {name: lstm(k, width, h, width, kind) for k, (name, h) in zip(keys, hidden.items(), strict=True)}, {}

  def apply(params, state, support, labels, queries, *, train, key=None):
    if read_steps:
      support = in_context(params, support, labels)
      queries = jax.vmap(lambda query: read(params["read"], query, support, labels, read_steps))(queries)
    return attention_logits(support, labels, queries, scale), state

  return by_comparison(network, Network(init, apply), chunk_size=chunk_size)


def lstm(key: Key, inputs: int, hidden: int, cells: int, dtype: DTypeLike) -> dict:
  """Initial parameters of an LSTM: uniform weights of variance `1 / (inputs + hidden)`, a forget-gate bias of 1."""
  bound = np.sqrt(3 / (inputs + hidden))
  of_input, of_hidden = jax.random.split(key)

  def draw(key, rows):
    return jax.random.uniform(key, (rows, 4 * cells), dtype, -bound, bound)

  bias = jnp.asarray(np.repeat([0.0, 1.0, 0.0, 0.0], cells), dtype)
  return {"input": draw(of_input, inputs), "hidden": draw(of_hidden, hidden), "bias": bias}


def lstm_step(params: dict, inputs: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
  """`(output, cell)` of a step: gates `i, f, o` and candidate `g` of `inputs W + hidden U + b`,
  `cell = sigmoid(f) cell + sigmoid(i) tanh(g)`, `output = sigmoid(o) tanh(cell)`."""
  gates = inputs @ params["input"] + hidden @ params["hidden"] + params["bias"]
  write, keep, show, candidate = jnp.split(gates, 4, -1)
  cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(write) * jnp.tanh(candidate)
  return jax.nn.sigmoid(show) * jnp.tanh(cell), cell


def in_context(params: dict, support: Array, labels: Array) -> Array:
  """`g`: the support embeddings `[s, d]` plus the outputs of a bidirectional LSTM over the support set.

  The LSTM skips rows without a label.
  """
  there = labels.any(-1)

  def over(params, backwards):
    def step(carry, row):
      inputs, exists = row
      new = lstm_step(params, inputs, *carry)
      return jax.tree.map(lambda n, o: jnp.where(exists, n, o), new, carry), new[0]

    zeros = jnp.zeros_like(support[0])
    return lax.scan(step, (zeros, zeros), (support, there), reverse=backwards)[1]

  return support + over(params["forward"], False) + over(params["backward"], True)


def read(params: dict, query: Array, support: Array, labels: Array, steps: int) -> Array:
  """`f`: the embedding `[d]` of a query after `steps` attention reads of the support `[s, d]`."""

  def step(carry, _):
    hidden, cell = carry
    seen = attention(support @ hidden, labels) @ support
    output, cell = lstm_step(params, query, jnp.concatenate([hidden, seen]), cell)
    return (output + query, cell), None

  zeros = jnp.zeros_like(query)
  return lax.scan(step, (zeros, zeros), length=steps)[0][0]
