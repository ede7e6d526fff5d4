"""One's own pictures: single files, and the folders, tables and archives that hold many."""
