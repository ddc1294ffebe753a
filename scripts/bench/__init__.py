"""The parts of scripts/benchmark.py: rows, contenders, environments of the peers, and the page."""
