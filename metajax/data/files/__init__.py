"""One's own images: single files, and the folders, tables and archives that hold many."""
