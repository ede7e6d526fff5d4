"""Texts: tokenizers, corpora, captions, and batches of image-caption pairs."""
