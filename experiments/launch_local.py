"""Runs a command as several hosts on this machine, each a process with separate CPU devices, as a test before a pod.

python -m experiments.launch_local 2 experiments.simclr --preset demo
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

USAGE = "python -m experiments.launch_local HOSTS MODULE [ARGUMENT ...]"


def main(arguments: list[str]) -> int:
  """Starts one process per host, forwards their output and incoming signals, and waits for all of them.

  Args:
    arguments: Number of hosts, a module for `python -m`, and its arguments.

  Returns:
    0 if all processes succeed, else the first nonzero status.
  """
  if arguments[:1] in (["-h"], ["--help"]):
    print(
      f"usage: {USAGE}\n\n{__doc__}\nEach process has one XLA device a core; --devices N makes N of all hosts together."
    )
    return 0
  if len(arguments) < 2 or not re.fullmatch("0*[1-9][0-9]{0,2}", arguments[0]):
    print(f"error: expected {USAGE}, got {' '.join(arguments)[:100] or 'nothing'} (1 to 999 HOSTS)", file=sys.stderr)
    return 2
  hosts, command = int(arguments[0]), [sys.executable, "-u", "-m", *arguments[1:]]
  shared = {**os.environ, "METAJAX_COORDINATOR": f"127.0.0.1:{free_port()}", "METAJAX_HOSTS": str(hosts)}
  shared.setdefault("JAX_PLATFORMS", "cpu")
  running = []
  for host in range(hosts):
    errors = None if host == 0 else subprocess.PIPE
    one = subprocess.Popen(command, env=shared | {"METAJAX_HOST": str(host)}, stderr=errors, start_new_session=True)
    running.append(one)
    if host:
      threading.Thread(target=_pass_on, args=(host, one.stderr), daemon=True).start()
  told = []

  def pass_on(number, frame):
    told.append(number)
    for one in running if len(told) > 1 else running[:1]:  # one host notifies all others
      one.send_signal(number)

  before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    statuses = [one.wait() for one in running]
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
  for host, status in enumerate(statuses):
    if status:
      how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
      print(f"host {host} {how}", file=sys.stderr)
  return next((abs(status) for status in statuses if status), 0)


def free_port() -> int:
  """Returns a free TCP port of this machine."""
  with socket.socket() as there:
    there.bind(("127.0.0.1", 0))
    return there.getsockname()[1]


def _pass_on(host: int, lines):
  for line in lines:
    sys.stderr.write(f"host {host}: {line.decode(errors='replace')}")
    sys.stderr.flush()


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
