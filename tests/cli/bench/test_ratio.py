from labkit.cli.bench.ratio import Ratio, cpu_seconds


def test_the_ratio_is_the_median_of_pairs_and_the_figures_are_medians():
    found = Ratio.of("x", [(10, 1), (20, 10), (30, 10)], "y", "IO/s", 2.5)
    assert (found.ours, found.other, found.ratio, found.rounds) == (20, 10, 3, 3)
    assert found.as_dict() == {
        "name": "x", "ours": 20, "other": 10, "against": "y", "unit": "IO/s", "aim": 2.5, "ratio": 3.0, "rounds": 3,
        "reached": True,
    }  # fmt: skip


def test_cpu_seconds_are_those_of_what_is_done_within():
    with cpu_seconds() as some:
        sum(range(1000))
    with cpu_seconds() as more:
        sum(range(3_000_000))
    assert 0 <= some[0] < more[0]
