"""Names that records of earlier versions hold, and the names of today."""

RENAMED = {
  "text_to_picture": "text_to_image",
  "picture_to_text": "image_to_text",
  "pictures apart": "held-out images",
  "pictures' captions": "images' captions",
  "bits_per_letter": "bits_per_character",
  "letters": "characters",
  "neighbour": "neighbor",
  "centred": "centered",
  "colours": "colors",
  "own/": "official/",
  "clean pictures": "clean images",
}
FIELDS = ("learner", "split", "measure", "of")


def current(record: dict) -> dict:
  """A record with today's names; its keys stay."""
  return record | {key: _current(record[key]) for key in FIELDS if isinstance(record.get(key), str)}


def _current(name: str) -> str:
  for former, now in RENAMED.items():
    name = name.replace(former, now)
  return name
