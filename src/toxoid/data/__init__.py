"""Data: requests, the published sets that hold them, and the files toxoid writes.

Import from the modules: :mod:`toxoid.data.schemas`, :mod:`toxoid.data.loading`, :mod:`toxoid.data.writing`.
"""
