"""The meta-gradient of peers in PyTorch: learn2learn, higher, TorchOpt and `torch.func`, looped and vmapped.

Each peer is used as in its documentation, with the networks and weights of these benchmarks and PyTorch's batch norm.
It computes the mean query loss and its gradient. `benchmarks/README.md` describes the installation.
"""

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, grad_and_value, vmap
from torch.nn.functional import cross_entropy, gelu, layer_norm

from benchmarks.networks import HEADS, TOKENS
from metajax.types import Episode, Params

EPS = EPS_ROOT = 1e-8


class Inner(NamedTuple):
  """An inner loop: optimizer ("sgd" or "adam"), learning rate and number of steps."""

  optimizer: str
  rate: float
  steps: int


def peers(
  network: str, params: Params, episodes: Episode, inner: Inner, threads: int, double: bool = False
) -> dict[str, Callable]:
  """The installed peers that support the inner loop, by name: functions `() -> (loss, gradient norm)`.

  Only TorchOpt and `torch.func` have an Adam with `eps_root`, without which its derivative is unbounded.

  Args:
    network: "conv4" or "transformer".
    params: Params of `with_head(network, linear(ways))`.
    episodes: Batch of tasks with square images `[tasks, n, size, size, 1]`.
    inner: Inner loop.
    threads: Number of PyTorch threads.
    double: Compute in 64 bits.
  """
  torch.set_num_threads(threads)
  device = "cuda" if torch.cuda.is_available() else "cpu"
  module = {"conv4": _conv4, "transformer": _Transformer}[network](params).to(device)
  tasks = [x for examples in episodes for x in (_images(network, examples.inputs), _classes(examples.labels))]
  if double:
    module, tasks = module.double(), [x.double() if x.is_floating_point() else x for x in tasks]
  tasks = [x.to(device) for x in tasks]
  makers = {"torch.func looped": _looped, "torch.func vmapped": _vmapped}
  if is_there("torchopt"):
    makers["TorchOpt"] = _torchopt
  if inner.optimizer == "sgd":
    makers |= {name: make for name, make in (("learn2learn", _learn2learn), ("higher", _higher)) if is_there(name)}
  return {name: _timed(make(module, tasks, inner)) for name, make in makers.items()}


def versions() -> dict[str, str]:
  """The versions of PyTorch and the installed peers."""
  found = {"torch": torch.__version__}
  for name in ("learn2learn", "higher", "torchopt"):
    if is_there(name):
      found[name] = importlib.metadata.version(name)
  return found


def is_there(name: str) -> bool:
  """Returns True if a module is installed."""
  return importlib.util.find_spec(name) is not None


def _timed(run):
  def timed():
    loss, gradient = run()
    return float(loss), float(torch.sqrt(sum((g * g).sum() for g in gradient)))

  return timed


def _learn2learn(module, tasks, inner):
  from learn2learn.algorithms.maml import MAML

  model = MAML(module, lr=inner.rate, first_order=False)

  @contextlib.contextmanager
  def adapted(support, labels):
    learner = model.clone()
    for _ in range(inner.steps):
      learner.adapt(cross_entropy(learner(support), labels))
    yield learner

  return _backward_each(module, tasks, adapted)


def _higher(module, tasks, inner):
  import higher

  optimizer = torch.optim.SGD(module.parameters(), lr=inner.rate)

  @contextlib.contextmanager
  def adapted(support, labels):
    with higher.innerloop_ctx(module, optimizer, copy_initial_weights=False) as (fast, inner_optimizer):
      for _ in range(inner.steps):
        inner_optimizer.step(cross_entropy(fast(support), labels))
      yield fast

  return _backward_each(module, tasks, adapted)


def _torchopt(module, tasks, inner):
  import torchopt

  if inner.optimizer == "sgd":
    optimizer = torchopt.MetaSGD(module, lr=inner.rate)
  else:
    optimizer = torchopt.MetaAdam(module, lr=inner.rate, eps=EPS, eps_root=EPS_ROOT)
  start = [torchopt.extract_state_dict(x, by="reference") for x in (module, optimizer)]

  @contextlib.contextmanager
  def adapted(support, labels):
    for _ in range(inner.steps):
      optimizer.step(cross_entropy(module(support), labels))
    yield module
    for x, state in zip((module, optimizer), start, strict=True):
      torchopt.recover_state_dict(x, state)

  return _backward_each(module, tasks, adapted)


def _backward_each(module, tasks, adapted):
  """The mean loss and its gradient, task by task, through `with adapted(support, labels) as adapted_module`."""
  parameters = list(module.parameters())

  def run():
    for parameter in parameters:
      parameter.grad = None
    total = 0.0
    for support, labels, query, query_labels in zip(*tasks, strict=True):
      with adapted(support, labels) as fast:
        loss = cross_entropy(fast(query), query_labels) / len(tasks[0])
        loss.backward()
      total += loss.detach()
    return total, [p.grad for p in parameters]

  return run


def _looped(module, tasks, inner):
  params = {name: p.detach() for name, p in module.named_parameters()}
  differentiate = grad_and_value(_task_loss(module, inner))

  def run():
    total, sums = 0.0, None
    for task in zip(*tasks, strict=True):
      gradient, loss = differentiate(params, *task)
      total += loss
      sums = gradient if sums is None else {name: sums[name] + g for name, g in gradient.items()}
    return total / len(tasks[0]), [g / len(tasks[0]) for g in sums.values()]

  return run


def _vmapped(module, tasks, inner):
  params = {name: p.detach() for name, p in module.named_parameters()}
  differentiate = vmap(grad_and_value(_task_loss(module, inner)), in_dims=(None, 0, 0, 0, 0))

  def run():
    gradient, losses = differentiate(params, *tasks)
    return losses.mean(), [g.mean(0) for g in gradient.values()]

  return run


def _task_loss(module, inner):
  loss_of = lambda params, inputs, labels: cross_entropy(functional_call(module, params, (inputs,)), labels)

  def task_loss(params, support, labels, query, query_labels):
    first = second = {name: torch.zeros_like(p) for name, p in params.items()}
    for step in range(1, inner.steps + 1):
      slope = grad(loss_of)(params, support, labels)
      if inner.optimizer == "sgd":
        params = {name: p - inner.rate * slope[name] for name, p in params.items()}
        continue
      first = {name: 0.9 * first[name] + 0.1 * g for name, g in slope.items()}
      second = {name: 0.999 * second[name] + 0.001 * g * g for name, g in slope.items()}
      size = {name: torch.sqrt(x / (1 - 0.999**step) + EPS_ROOT) + EPS for name, x in second.items()}
      params = {name: p - inner.rate * first[name] / (1 - 0.9**step) / size[name] for name, p in params.items()}
    return loss_of(params, query, query_labels)

  return task_loss


def _images(network, images):
  """Images `[tasks, n, size, size, 1]`; for conv4 flipped, like its kernels, with channels first.

  XLA pads an even side only at its end, PyTorch at both ends: with a stride of 2 both agree on flipped images, so that
  PyTorch's padding can be used.
  """
  images = torch.tensor(np.asarray(images))
  return torch.flip(images, (2, 3)).permute(0, 1, 4, 2, 3).contiguous() if network == "conv4" else images


def _classes(labels):
  return torch.tensor(np.asarray(labels).argmax(-1))


def _copy(parameter, values):
  with torch.no_grad():
    parameter.copy_(torch.tensor(np.asarray(values)))


def _linear(params):
  made = nn.Linear(*params["weight"].shape)
  _copy(made.weight, params["weight"].T)
  _copy(made.bias, params["bias"])
  return made


class _MeanOverSpace(nn.Module):
  def forward(self, images):
    return images.mean((2, 3))


def _conv4(params):
  encoder, layers = params["encoder"], []
  for i in range(4):
    kernel = np.transpose(np.asarray(encoder[f"kernel_{i}"])[::-1, ::-1], (3, 2, 0, 1))
    convolution = nn.Conv2d(*kernel.shape[1::-1], 3, stride=2, padding=1, bias=False)
    norm = nn.BatchNorm2d(len(kernel), eps=1e-5, track_running_stats=False)
    _copy(convolution.weight, kernel.copy())
    _copy(norm.weight, encoder[f"norm_{i}"]["scale"])
    _copy(norm.bias, encoder[f"norm_{i}"]["bias"])
    layers += [convolution, norm, nn.ReLU()]
  return nn.Sequential(*layers, _MeanOverSpace(), _linear(params["head"]))


class _Transformer(nn.Module):
  """`benchmarks.networks.transformer` with a linear head."""

  def __init__(self, params):
    super().__init__()
    self.blocks = sum(name.startswith("block") for name in params["encoder"])
    flat = {}
    for name, part in params["encoder"].items():
      for key, x in part.items() if isinstance(part, dict) else [("", part)]:
        flat |= {f"{name}_{key}_{k}": v for k, v in x.items()} if isinstance(x, dict) else {f"{name}_{key}": x}
    for name, x in flat.items():
      self.register_parameter(name, nn.Parameter(torch.tensor(np.asarray(x))))
    self.head = _linear(params["head"])

  def forward(self, images):
    tokens = images.reshape(len(images), TOKENS, -1) @ self.embed_ + self.position_
    for i in range(self.blocks):
      tokens = self._block({k: getattr(self, f"block_{i}_{k}") for k in _OF_A_BLOCK}, tokens)
    return self.head(layer_norm(tokens, tokens.shape[-1:], self.norm_scale, self.norm_bias).mean(1))

  @staticmethod
  def _block(p, tokens):
    n, count, width = tokens.shape
    normal = lambda i, x: layer_norm(x, (width,), p[f"norm_{i}_scale"], p[f"norm_{i}_bias"])
    split = (normal(1, tokens) @ p["attend"]).reshape(n, count, 3, HEADS, width // HEADS)
    query, key, value = (split[:, :, i].transpose(1, 2) for i in range(3))
    weights = torch.softmax(query @ key.transpose(2, 3) / (width // HEADS) ** 0.5, -1)
    tokens = tokens + (weights @ value).transpose(1, 2).reshape(n, count, width) @ p["mix"]
    hidden = gelu(normal(2, tokens) @ p["up"] + p["up_bias"], approximate="tanh")
    return tokens + hidden @ p["down"] + p["down_bias"]


_OF_A_BLOCK = ("attend", "mix", "up", "up_bias", "down", "down_bias")
_OF_A_BLOCK += ("norm_1_scale", "norm_1_bias", "norm_2_scale", "norm_2_bias")
