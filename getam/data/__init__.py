"""Data sets: one file per kind, all read through the same index."""
