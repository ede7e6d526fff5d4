"""Built-in data sets, and the cache of generated data."""
