"""Fast failure of multi-host programs: if a host dies, the others exit immediately with a message.

JAX's heartbeat needs a timeout, and ends a process with a stack trace. Here each host holds a connection to host 0,
which the operating system closes as soon as a process dies for any reason.
"""

import atexit
import os
import secrets
import socket
import sys
import threading
import warnings
from collections.abc import Callable

import jax

WAIT = 20  # seconds
EXIT_PEER_LOST = 3  # exit status of a host that lost another
GOODBYE = 2**32 - 1  # message of a host that exits normally; any other message is the number of a lost host
_advice = []


def set_exit_advice(text: str):
  """Sets the advice that is printed when a host is lost, e.g. how to resume."""
  _advice[:] = [text]


def watch(address: str | None, broadcast_from_primary: Callable):
  """Starts the watch threads. A host that cannot reach host 0 warns and continues unwatched.

  Args:
    address: Address of host 0 as seen by the others; by default the address of its outgoing packets.
    broadcast_from_primary: Function that sends a value of host 0 to all hosts.
  """
  peers = []
  atexit.register(_say, peers, GOODBYE)
  server = socket.create_server(("", 0)) if jax.process_index() == 0 else None
  own_port = 0 if server is None else server.getsockname()[1]
  address, port, secret = broadcast_from_primary(lambda: [address or _own_address(), own_port, secrets.token_hex(16)])
  if server is not None:
    threading.Thread(target=_receive, args=(server, secret.encode(), peers), daemon=True).start()
    return
  try:
    peers.append(socket.create_connection((address, port), timeout=WAIT))
  except OSError as error:
    warnings.warn(f"host 0 cannot be watched at {address}:{port}: {error}; JAX will notice its end later", stacklevel=3)
    return
  peers[0].settimeout(None)
  peers[0].sendall(secret.encode())
  _say(peers, jax.process_index())
  threading.Thread(target=_listen, args=(0, peers[0], peers), daemon=True).start()


def _receive(server, secret: bytes, peers):
  """Accepts connections from the other hosts only: each must send the secret first."""
  while len(peers) < jax.process_count() - 1:
    peer, _ = server.accept()
    peer.settimeout(WAIT)
    number = _heard(peer) if _read(peer, len(secret)) == secret else None
    if number is None:
      peer.close()
      continue
    peer.settimeout(None)
    peers.append(peer)
    threading.Thread(target=_listen, args=(number, peer, peers), daemon=True).start()
  server.close()


def _own_address() -> str:
  """Returns the address that outgoing packets would carry; sends none."""
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
    try:
      way_out.connect(("10.255.255.255", 1))
      return way_out.getsockname()[0]
    except OSError:
      return socket.gethostbyname(socket.gethostname())


def _listen(number: int, peer, peers):
  lost = _heard(peer)
  if lost == GOODBYE:
    return
  lost = number if lost is None else lost
  _say(peers, lost)
  advice = "".join(f"; {text}" for text in _advice)
  print(f"error: host {lost} has ended or can no longer be reached{advice}", file=sys.stderr, flush=True)
  os._exit(EXIT_PEER_LOST)


def _heard(peer) -> int | None:
  """Receives the next number, or None if the connection has ended."""
  said = _read(peer, 4)
  return int.from_bytes(said, "big") if len(said) == 4 else None


def _read(peer, count: int) -> bytes:
  """Receives `count` bytes, or fewer if the connection has ended."""
  found = b""
  try:
    while len(found) < count and (more := peer.recv(count - len(found))):
      found += more
  except OSError:
    return b""
  return found


def _say(peers, what: int):
  for peer in peers:
    try:
      peer.sendall(what.to_bytes(4, "big"))
    except OSError:
      continue  # the peer has already exited
