"""Exports: what the archive holds, as files for people and other programs; a module a format."""
