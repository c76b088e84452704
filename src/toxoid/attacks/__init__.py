"""Attacks: one request into one or more adversarial conversations.

Import :func:`toxoid.attacks.registry.make_attack`; the contract is in :mod:`toxoid.attacks.base`.
"""
