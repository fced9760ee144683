"""Frozen results in, HTML text and figures out; touches no disk."""
