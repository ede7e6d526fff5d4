"""CLIP experiments: data, zero-shot classification, retrieval and probes."""
