"""Experiments: one script per result."""

import os
import signal
import sys

# A command may be stopped while it still imports, which takes seconds: there is nothing to save yet.
if sys.argv[:1] == ["-m"]:
  signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
  signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
