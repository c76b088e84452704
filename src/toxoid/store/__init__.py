"""The run directory: records, artefacts, manifest, and the keys that tell one run from another.

Import from the modules: :mod:`toxoid.store.keys`, :mod:`toxoid.store.files`, :mod:`toxoid.store.records`,
:mod:`toxoid.store.run_directory`.
"""
