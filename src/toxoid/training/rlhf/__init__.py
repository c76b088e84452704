"""RLHF: a reward model from pairs of replies, and a policy that it rewards, through TRL."""
