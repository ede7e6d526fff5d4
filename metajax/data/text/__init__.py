"""Texts: tokenizers, corpora, captions, and batches of pictures beside captions."""
