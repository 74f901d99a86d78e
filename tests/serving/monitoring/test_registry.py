"""Counters, gauges and histograms, and their text."""

import pytest

from serving.monitoring import registry as metrics_registry
from serving.monitoring.registry import Counter, Gauge, Histogram


def test_the_oldest_label_set_is_forgotten():
    counter = Counter("/a", ("path",), most_label_sets=2)
    for version in ("3", "1", "3", "2", "2"):
        counter.increment((version,))
    assert counter.lines() == ["# TYPE :a counter", ':a{path="1"} 1', ':a{path="2"} 2']


def test_the_wrong_number_of_labels_is_the_programs_mistake():
    with pytest.raises(ValueError, match="has the labels"):
        Counter("/a", ("one",)).increment(("1", "2"))


def test_names_and_numbers_on_the_page():
    counter = Counter("/a/b-c.d", ("x.y",))
    counter.increment(("1",), 5)
    histogram = Histogram("h", (), (0.1, 2.5e6))
    histogram.observe((), 0.25)
    gauge = Gauge("g", ("l",), lambda: {("b",): 2.0, ("a",): 0.5})
    assert metrics_registry.page([histogram, gauge, counter]).splitlines() == [
        "# TYPE :a:b:c:d counter",
        ':a:b:c:d{x_y="1"} 5',
        "# TYPE g gauge",
        'g{l="a"} 0.5',
        'g{l="b"} 2',
        "# TYPE h histogram",
        'h_bucket{le="0.1"} 0',
        'h_bucket{le="2.5e+06"} 1',
        'h_bucket{le="+Inf"} 1',
        "h_sum{} 0.25",
        "h_count{} 1",
    ]


def test_a_long_sum_goes_on_growing():
    histogram = Histogram("h", (), (1,))
    histogram.observe((), 1_234_567_890)
    histogram.observe((), 1)
    assert "h_sum{} 1234567891" in histogram.lines()
