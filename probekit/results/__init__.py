"""A finished run: written, read, exported, asked for single pairs."""
