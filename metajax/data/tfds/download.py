"""A TFDS set downloaded and prepared, where its host answers."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from typing import Any

from metajax.data._tensorflow import tfds

SECONDS_TO_ANSWER = 5  # how long a download's host may take to answer before the network counts as absent


def download_and_prepare(name: str, folder: str, holds: str) -> tfds.core.DatasetBuilder:
  """The TFDS builder of a data set after it has downloaded and prepared it in `folder`."""
  try:
    builder = tfds.builder(name, data_dir=folder)
  except tfds.core.DatasetNotFoundError:
    raise ValueError(f"unknown data set {name!r}: TFDS has no such set to download, and {holds}") from None
  # TFDS itself would go on trying for minutes where there is no network.
  address = next(iter(builder.url_infos or {}), None)
  if address and not _answers(address):
    raise ConnectionError(
      f"data set {name!r} cannot be downloaded: {address} does not answer; "
      f"without a network, set data_dir or TFDS_DATA_DIR to a folder that has it: {holds}"
    )
  prepare: Any = builder.download_and_prepare  # wrapped, so that its types want a `self`
  prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
  return builder


def _answers(address):
  """Whether the host of an address answers within SECONDS_TO_ANSWER, even if only to refuse."""
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

  # A name server that hangs knows no time limit: the question goes to a thread that may be left behind.
  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(SECONDS_TO_ANSWER)
  return bool(answers)
