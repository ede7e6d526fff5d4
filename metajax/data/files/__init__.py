"""User-supplied images: single files, and folders, tables and archives of many."""
