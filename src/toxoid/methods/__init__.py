"""The treatments: systems from papers, one package each, and their baselines."""
