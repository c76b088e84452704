"""Statistics of an audit: pure functions from outcomes to rates, intervals and tests.

Import from the modules: :mod:`~toxoid.stats.intervals` (a rate and its interval), :mod:`~toxoid.stats.paired`
(before and after on the same items), :mod:`~toxoid.stats.multiplicity`, :mod:`~toxoid.stats.power`,
:mod:`~toxoid.stats.judge_error` and :mod:`~toxoid.stats.agreement`.
"""
