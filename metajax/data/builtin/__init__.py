"""Data sets that are drawn or named here, and the cache that keeps what was made."""
