"""Engines: conversation to completion, from a model in this process or behind an endpoint."""
