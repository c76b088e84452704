"""Adversary against judge: one writes problematic requests, the other learns to tell them from harmless ones."""
