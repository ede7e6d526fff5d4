"""Language models: texts, a bigram baseline, and samples."""
