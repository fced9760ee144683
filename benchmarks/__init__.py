"""Measurements of probekit against what else is used for the same work; `python -m benchmarks` runs them."""
