"""Treatments that others proposed, for comparison."""
