"""Mistake analysis (Chen et al. 2023, arXiv 2310.10477): learn from one's own analysed mistakes."""
