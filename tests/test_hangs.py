"""Reports of hangs: the stacks of all threads, after seconds without a batch."""

import subprocess
import sys

from metajax.experiment.hangs import reporting_hangs

HANGS = """
import itertools, threading, time
from metajax.experiment.hangs import reporting_hangs

def waits_for_a_host():
  time.sleep(60)

threading.Thread(target=waits_for_a_host, daemon=True).start()
with reporting_hangs(lambda start, shard: itertools.count(start), 1) as batches:
  for step in batches(0, (0, 1)):
    if step == 2:
      time.sleep(2.5)
      break
time.sleep(1.5)
print("went on")
"""


def test_a_hang_is_reported_by_the_stacks_of_all_threads_and_the_run_goes_on():
  run = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, check=True)
  assert run.stdout == "went on\n"
  assert run.stderr.count("waits_for_a_host") == run.stderr.count("Timeout (0:00:01)!") == 2, run.stderr


def test_no_hangs_are_reported_if_no_seconds_are_given():
  with reporting_hangs(iter, 0) as batches:
    assert batches is iter
