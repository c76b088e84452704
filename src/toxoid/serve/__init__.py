"""Serving: a protected model that answers many clients at once."""
