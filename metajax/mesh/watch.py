"""Hosts that watch each other: one that dies ends the others at once, with a line that says so.

JAX's own watch takes a time without a sign of life, and ends a process with a stack trace. Here each host holds a
connection to the first one, which the operating system closes as soon as a process dies, however it does.
"""

import atexit
import os
import socket
import sys
import threading
from collections.abc import Callable

import jax

LOST = 3  # the status of a host that lost another
GOODBYE = 2**32 - 1  # what a host says before it ends as it should; otherwise it is the number of a host that is lost
_advice = []


def advise(text: str):
  """What is to be said to the user of a host that lost another, such as how to go on."""
  _advice[:] = [text]


def watch(address: str, from_first_host: Callable):
  """Begins to watch, from host 0 on.

  Args:
    address: of host 0, as the others reach it.
    from_first_host: gives the others what host 0 knows.
  """
  server = socket.create_server(("", 0)) if jax.process_index() == 0 else None
  port = from_first_host(lambda: server.getsockname()[1])
  if server is None:
    peers = [socket.create_connection((address, port), timeout=60)]
    _say(peers, jax.process_index())
  else:
    peers = [server.accept()[0] for _ in range(jax.process_count() - 1)]
  numbers = [0] if server is None else [_heard(peer) for peer in peers]
  for number, peer in zip(numbers, peers, strict=True):
    peer.settimeout(None)
    threading.Thread(target=_listen, args=(number, peer, peers), daemon=True).start()
  atexit.register(_say, peers, GOODBYE)


def _listen(number: int, peer, peers):
  lost = _heard(peer)
  if lost == GOODBYE:
    return
  lost = number if lost is None else lost
  _say(peers, lost)
  advice = "".join(f"; {text}" for text in _advice)
  print(f"error: host {lost} has ended or can no longer be reached{advice}", file=sys.stderr, flush=True)
  os._exit(LOST)


def _heard(peer) -> int | None:
  """The number that comes next, or None where the connection has ended."""
  try:
    said = peer.recv(4, socket.MSG_WAITALL)
  except OSError:
    return None
  return int.from_bytes(said, "big") if len(said) == 4 else None


def _say(peers, what: int):
  for peer in peers:
    try:
      peer.sendall(what.to_bytes(4, "big"))
    except OSError:
      continue  # it has ended before
