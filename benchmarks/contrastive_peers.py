"""The same contrastive losses by others, in PyTorch: lightly's NTXentLoss and open_clip's ClipLoss.

Each is used as its documentation does, and gives the value and the gradient of the same rows. Installing them: see
`benchmarks/README.md`.
"""

import ctypes
import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path

# Its threads would go on spinning for work while others are timed: tiled losses took 30% longer. Its own times stay.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch.nn.functional import normalize

from benchmarks.peers import is_there

MODULES = {"lightly": "lightly", "open_clip": "open_clip_torch"}  # and the distributions that they come in


def peers(loss: str, towers, scale: float, temperature: float, threads: int) -> dict[str, Callable]:
  """The installed peers that have the loss, by name: functions without arguments that give (loss, gradients)."""
  torch.set_num_threads(threads)
  device = "cuda" if torch.cuda.is_available() else "cpu"
  towers = [torch.tensor(x, device=device, requires_grad=True) for x in towers]
  if loss == "info_nce" and is_there("open_clip"):
    from open_clip.loss import ClipLoss

    clip = ClipLoss()
    return {"open_clip": _run(towers, lambda a, b: clip(normalize(a, dim=-1), normalize(b, dim=-1), scale))}
  if loss == "nt_xent" and is_there("lightly"):
    from lightly.loss import NTXentLoss

    criterion = NTXentLoss(temperature=temperature)
    return {"lightly": _run(towers, lambda rows: criterion(rows[0::2], rows[1::2]))}
  return {}


def versions() -> dict[str, str]:
  """The peers' versions, of those installed."""
  found = {name: importlib.metadata.version(package) for name, package in MODULES.items() if is_there(name)}
  return {"torch": torch.__version__, **found}


def peak_mebibytes(run: Callable) -> float:
  """How far a call takes the process's memory beyond what it held, results included."""
  if torch.cuda.is_available():
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - held) / 2**20
  ctypes.CDLL(None).malloc_trim(0)  # what was freed before goes back: taken again, it would not be seen
  Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is held
  held = _status("VmRSS")
  run()
  return (_status("VmHWM") - held) / 2**10


def _status(name: str) -> int:
  """A figure of the process's memory, in KiB."""
  lines = Path("/proc/self/status").read_text().splitlines()
  return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _run(towers, loss):
  def run():
    for tower in towers:
      tower.grad = None
    value = loss(*towers)
    value.backward()
    return float(value.detach()), [tower.grad for tower in towers]

  return run
