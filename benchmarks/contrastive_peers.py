"""The contrastive losses of peers in PyTorch: lightly's NTXentLoss and open_clip's ClipLoss.

Each peer is used as in its documentation, and computes value and gradient on the same rows. `benchmarks/README.md`
describes their installation.
"""

import ctypes
import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path

# PyTorch's threads would busy-wait while others are timed, and slow tiled losses by 30%. Its times stay the same.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch.nn.functional import normalize

from benchmarks.peers import is_there

MODULES = {"lightly": "lightly", "open_clip": "open_clip_torch"}  # {module: distribution}


def peers(loss: str, towers, scale: float, temperature: float, threads: int) -> dict[str, Callable]:
  """The installed peers that have the loss, by name: functions `() -> (loss, gradients)`."""
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
  """The versions of PyTorch and the installed peers."""
  found = {name: importlib.metadata.version(package) for name, package in MODULES.items() if is_there(name)}
  return {"torch": torch.__version__, **found}


def peak_mebibytes(run: Callable) -> float:
  """Peak memory of a call in MiB, beyond the memory held before, results included."""
  if torch.cuda.is_available():
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - held) / 2**20
  ctypes.CDLL(None).malloc_trim(0)  # returns freed memory to the system, as its reuse would not be counted
  Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the current memory
  held = _status("VmRSS")
  run()
  return (_status("VmHWM") - held) / 2**10


def _status(name: str) -> int:
  """An entry on the memory of the process, in KiB."""
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
