"""Audits: tasks, items, verdicts to rates, rates to sentences."""
