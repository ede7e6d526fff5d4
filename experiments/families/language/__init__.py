"""Language models: texts to learn from, a bigram model to beat, samples to read."""
