"""The lab: a fictional micro-world with a grammar, an exact oracle and a tiny chat model."""
