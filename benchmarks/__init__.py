"""Benchmarks: one script per claim, each beside a peer, with JSON on the last line."""
