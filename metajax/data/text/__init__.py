"""Texts: tokenizers, corpora, captions, and batches of images beside captions."""
