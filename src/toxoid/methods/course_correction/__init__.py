"""Course-correction (Xu et al. 2024, arXiv 2407.16637): learn to leave a harmful reply that has begun."""
