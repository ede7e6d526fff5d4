"""Downloads and prepares a TFDS set, if its host answers."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from typing import Any

from metajax.data._tensorflow import tfds

SECONDS_TO_ANSWER = 5  # time limit for a download's host, after which the network counts as absent


def download_and_prepare(name: str, folder: str, holds: str) -> tfds.core.DatasetBuilder:
  """Downloads and prepares a data set in `folder`, and returns its TFDS builder."""
  try:
    builder = tfds.builder(name, data_dir=folder)
  except tfds.core.DatasetNotFoundError:
    raise ValueError(f"unknown data set {name!r}: TFDS has no such set to download, and {holds}") from None
  # Without a network, TFDS itself would keep trying for minutes.
  address = next(iter(builder.url_infos or {}), None)
  if address and not _answers(address):
    raise ConnectionError(
      f"data set {name!r} cannot be downloaded: {address} does not answer; "
      f"without a network, set data_dir or TFDS_DATA_DIR to a folder that has it: {holds}"
    )
  prepare: Any = builder.download_and_prepare  # a wrapper, whose type hints ask for a `self`
  prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
  return builder


def _answers(address):
  """Whether the host of an address answers within SECONDS_TO_ANSWER, even with a refusal."""
  answers = []

  def ask():
    try:
      urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=SECONDS_TO_ANSWER).close()
      answers.append(address)
    except urllib.error.HTTPError as error:
      if error.code < 500:
        answers.append(address)
    except OSError:
      pass

  # A hanging name server ignores the time limit, so the request runs in a thread that may be abandoned.
  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(SECONDS_TO_ANSWER)
  return bool(answers)
