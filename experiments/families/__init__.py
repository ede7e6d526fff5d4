"""Code shared by the commands of one family; nothing here is a command."""
