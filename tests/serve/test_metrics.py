"""The text format of Prometheus."""

from __future__ import annotations

from toxoid.serve.metrics import Metrics


def test_counters_add_up_by_label():
    metrics = Metrics()
    metrics.count("a_total", route="/x")
    metrics.count("a_total", 2, route="/x")
    metrics.count("a_total", route="/y")
    assert metrics.text() == '# TYPE a_total counter\na_total{route="/x"} 3.0\na_total{route="/y"} 1.0\n'


def test_a_gauge_says_the_last_value():
    metrics = Metrics()
    metrics.set("rows", 3)
    metrics.set("rows", 2)
    assert metrics.text() == "# TYPE rows gauge\nrows 2\n"


def test_buckets_of_a_histogram_hold_all_values_up_to_their_end():
    metrics = Metrics()
    for value in (0.5, 1.0, 1.5, 9.0):
        metrics.observe("t", value, (1.0, 2.0), stage="x")
    assert metrics.text().splitlines() == [
        "# TYPE t histogram",
        't_bucket{stage="x",le="1"} 2',
        't_bucket{stage="x",le="2"} 3',
        't_bucket{stage="x",le="+Inf"} 4',
        't_sum{stage="x"} 12.0',
        't_count{stage="x"} 4',
    ]


def test_labels_cannot_forge_a_line():
    metrics = Metrics()
    metrics.count("a_total", key='x"} 1\nb_total 5\\')
    assert metrics.text().splitlines()[1] == 'a_total{key="x\\"} 1\\nb_total 5\\\\"} 1.0'
