"""Reports: what a run measured, for people and for other programs.

Import from the modules: :mod:`toxoid.report.html` (one self-contained page) and
:mod:`toxoid.report.terminal` (tables for the terminal).
"""
