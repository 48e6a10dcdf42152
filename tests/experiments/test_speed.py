"""Speed is an experiment like the others: what its cases measure is judged, kept, and looked at case by case."""

import itertools
import sys

import figures
import pytest
import reproduce
import speed
import speed_core
from timing import at_most, measured


@pytest.fixture
def cases(monkeypatch):
    """Two cases that take no time, and what each was given."""
    given, counts = [], itertools.count(1)

    def quick(folder):
        given.append((folder, folder.is_dir(), list(folder.iterdir())))
        (folder / "left").touch()
        return [at_most("ratio", 1.5 + next(counts), "", 3.0), measured("time", 7.0, "ms")]

    def slow(_folder):
        return [at_most("peak", 1999.0, "MB", 2000.0)]

    monkeypatch.setattr(speed, "CASES", {"quick": quick, "slow": slow})
    monkeypatch.setattr(speed, "LONG", {"slow"})
    return given


def test_every_case_is_measured_as_often_as_there_are_seeds_each_time_in_a_folder_of_its_own(cases, tmp_path):
    ratio, time, peak = speed.run(seeds=2, workdir=tmp_path).figures
    assert (ratio.name, time.name, peak.name) == ("quick: ratio", "quick: time", "slow: peak")
    assert (ratio.values, time.values, peak.values) == ([2.5, 3.5], [7.0, 7.0], [1999.0, 1999.0])
    assert [figures.within(figure) for figure in (ratio, time, peak)] == [True, None, True]
    assert [(there, inside) for _, there, inside in cases] == [(True, []), (True, [])]
    assert all(folder.parent == tmp_path and not folder.exists() for folder, *_ in cases)


def test_a_bound_is_the_most_that_is_allowed():
    assert figures.within(at_most("a", 1.7, "", 1.7))
    assert not figures.within(at_most("a", 1.70001, "", 1.7))
    assert figures.within(at_most("a", 0.1, "", 1.7))


def test_a_case_is_looked_at_by_its_name_and_without_names_all_but_the_long_ones(cases, capsys, monkeypatch):
    def rows(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
        speed.main()
        return [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:]]

    assert rows() == ["quick: ratio", "quick: time"]
    assert rows("slow") == ["slow: peak"]
    with pytest.raises(SystemExit):
        rows("nope")
    assert "no case is called nope: choose from quick, slow" in capsys.readouterr().err


def test_it_is_found_with_the_other_experiments_and_its_bounds_are_those_of_its_head():
    head = reproduce.experiments()["speed"]
    for bound in ("1.7 times the bare matrix product", "1.1 times scikit-learn", "6 s", "1500 MB", "3 times as fast"):
        assert bound in head


def test_the_best_quantizer_is_never_worse_than_lloyds(tmp_path):
    figure = next(f for f in speed_core.optimal_scalar(tmp_path) if "distortion" in f.name)
    assert 0.9 < figure.values[0] <= figure.reference == 1.0
