"""Recipes and prompts: what a run does, as data that can be read, checked and hashed.

Import from the modules: :mod:`toxoid.config.recipe`, :mod:`toxoid.config.packaged`,
:mod:`toxoid.config.loading`, :mod:`toxoid.config.prompt_files`.
"""
