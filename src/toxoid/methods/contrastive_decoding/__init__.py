"""Adversarial contrastive decoding (Zhao et al. 2024, arXiv 2406.16743): two opposite prompts, one distribution."""
