"""Exports: what the archive holds, written into files that others can read; one module a format."""
