"""Samples in shards, read with random access: tar files as webdataset writes them, records and Parquet."""
