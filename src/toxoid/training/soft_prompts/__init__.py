"""Opposite prompt optimisation (Zhao et al. 2024): two soft prompts on a frozen model."""
