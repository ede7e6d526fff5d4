"""Published weights, read from their publishers' files into networks, and written back."""
