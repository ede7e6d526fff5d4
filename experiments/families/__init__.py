"""What the commands of one family share; nothing here is run."""
