"""The judgement of figures, what is kept of them, and that the committed table is what the kept results give."""

import json
import math
import re
import statistics
import sys

import figures
import numpy as np
import pytest
import reproduce
from figures import Figure, Outcome
from PIL import Image

from jaxgen.errors import UserError

HEAD = "A title.\n\ncommand: none"


def kept(*measured: Figure, **changes) -> dict:
    outcome = Outcome(list(measured), {})
    return {**figures.result("thing", "cpu", HEAD, outcome, seeds=3, seconds=61.0), **changes}


@pytest.mark.parametrize(
    ("values", "better", "tolerance", "expected"),
    [
        ([1.0, 1.2], "equal", 0.11, True),
        ([1.0, 1.2], "equal", 0.09, False),
        ([0.8, 1.0], "equal", 0.09, False),
        ([0.8, 1.0], "below", 0.0, True),
        ([1.0, 1.2], "below", 0.09, False),
        ([1.0, 1.2], "below", 0.11, True),
        ([1.0, 1.2], "above", 0.0, True),
        ([0.8, 1.0], "above", 0.09, False),
        ([0.8, 1.0], "above", 0.11, True),
        ([5.0, 1.0], "above", None, None),
        ([1.0, math.nan], "equal", 9.0, False),
        ([math.inf], "above", 9.0, False),
        ([-math.inf], "below", 9.0, False),
    ],
)
def test_a_figure_is_judged_by_its_mean_on_the_side_that_matters(values, better, tolerance, expected):
    assert figures.within(Figure("a", values, "", 1.0, "s", tolerance, better)) is expected


def test_a_figure_without_reference_is_not_judged():
    record = figures.as_record(Figure("a", [1.0], "", None, "own measurement", 0.1))
    assert record["within"] is None
    assert record["difference"] is None
    assert record["spread"] is None


def test_a_record_holds_mean_spread_and_difference_of_the_seeds():
    record = figures.as_record(Figure("a", np.array([1.0, 2.0, 6.0]), "nats", 2.5, "s", 1.0))
    assert record["values"] == [1.0, 2.0, 6.0]
    assert record["mean"] == pytest.approx(3.0, rel=1e-12)
    assert record["spread"] == pytest.approx(math.sqrt(7.0), rel=1e-12)
    assert record["difference"] == pytest.approx(0.5, rel=1e-12)
    json.dumps(record, allow_nan=False)


def test_a_figure_that_is_not_finite_is_valid_json_and_marked():
    record = figures.as_record(Figure("a", [math.nan, 1.0], "", 1.0, "s", 1.0))
    cells = figures.columns(json.loads(json.dumps(record, allow_nan=False)))
    assert cells[1] == "not finite"
    assert cells[5] == "✗ missed"


def test_a_missed_figure_is_marked_in_the_table_and_a_met_one_is_not():
    missed = Figure("far", [2.0, 2.2], "nats", 1.0, "exact", 0.01)
    met = Figure("near", [1.001, 1.002], "nats", 1.0, "exact", 0.01)
    rows = reproduce.results_text([kept(missed, met)]).splitlines()
    [far], [near] = ([row for row in rows if f"| {name} |" in row] for name in ("far", "near"))
    assert "✗ missed" in far
    assert "+1.1" in far
    assert "✓" in near
    assert "✗" not in near


def test_the_table_names_how_a_figure_was_had():
    result = kept(Figure("a|b", [1.0], "", None, "own"), revision="abc123+", seconds=601.0)
    text = reproduce.results_text([result])
    for part in ("reproduce.py thing --seeds 3 --scale cpu", "10 min", "abc123+", result["versions"]["jax"], "a\\|b"):
        assert part in text
    assert result["hardware"]["cpu"] in text


def test_the_region_is_replaced_whole_and_the_rest_of_the_page_is_kept():
    page = f"# Before\n{reproduce.BEGIN}\nold ✓ 17\n{reproduce.END}\nafter\n"
    once = reproduce.with_results(page, [kept(Figure("a", [1.0], "", None, "own"))])
    assert once.startswith(f"# Before\n{reproduce.BEGIN}\n")
    assert once.endswith(f"{reproduce.END}\nafter\n")
    assert "old" not in once
    assert reproduce.with_results(once, []) == reproduce.with_results(page, [])


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(UserError, match="lost its marks"):
        reproduce.with_results("# nothing here", [])


def test_the_committed_page_is_what_the_committed_results_give():
    page = reproduce.README.read_text(encoding="utf-8")
    assert page == reproduce.with_results(page, reproduce.load_results(figures.RESULTS))


RESULTS = sorted(figures.RESULTS.glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_committed_result_agrees_with_its_own_values(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert path.stem == f"{content['experiment']}-{content['scale']}"
    assert content["experiment"] in reproduce.experiments()
    for name in ("command", "seconds", "hardware", "versions", "revision", "date"):
        assert content[name]
    for record in content["figures"]:
        assert None not in record["values"]
        assert record["mean"] == pytest.approx(statistics.fmean(record["values"]), rel=1e-12)
        assert record["within"] is figures.within(Figure(*(record[field] for field in Figure._fields)))
        assert len(record["values"]) in (1, content["seeds"])
        assert record["source"]
    for picture in content["pictures"]:
        assert 0 < (path.parent / picture["file"]).stat().st_size < figures.PICTURE_BYTES


def test_results_are_of_a_revision_that_can_be_checked_out():
    results = reproduce.load_results(figures.RESULTS)
    assert {(kept["experiment"], kept["scale"]) for kept in results if kept["revision"].endswith("+")} == set()


def test_no_picture_is_left_of_a_result_that_is_gone():
    named = {p["file"] for result in reproduce.load_results(figures.RESULTS) for p in result["pictures"]}
    assert {path.name for path in figures.RESULTS.glob("*.png")} == named


@pytest.mark.parametrize(("name", "head"), reproduce.experiments().items(), ids=list(reproduce.experiments()))
def test_every_experiment_opens_with_command_hardware_time_expected_figure_and_source(name, head):
    for field in ("command", "hardware", "time", "expected", "source"):
        [line] = re.findall(rf"^{field}: +(.*)$", head, re.MULTILINE)
        assert re.search(r"\d|two CPU cores|experiments/|own|exact", line)
    assert f"python experiments/{name}.py" in head
    assert re.search(r"\d", re.search(r"^expected: +(.*)$", head, re.MULTILINE)[1])


def test_a_picture_is_made_to_fit_its_allowance(tmp_path):
    noise = np.random.default_rng(0).integers(256, size=(600, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    reproduce.save_small(tmp_path / "large.png", tmp_path / "small.png")
    assert 10_000 < (tmp_path / "small.png").stat().st_size < figures.PICTURE_BYTES
    with Image.open(tmp_path / "small.png") as small:
        assert small.width / small.height == pytest.approx(1.5, abs=0.02)


def test_time_adds_up_over_interrupted_attempts(tmp_path):
    (tmp_path / "seconds.json").write_text("100.0")
    with pytest.raises(RuntimeError), figures.stopwatch(tmp_path):
        raise RuntimeError
    with figures.stopwatch(tmp_path) as spent:
        assert 100.0 < spent() < 110.0


def _toy(folder, *, value: float, scale: str = "") -> None:
    (folder / "toy.py").write_text(
        '"""A toy."""\nfrom figures import Figure, Outcome\n\n'
        f"def run(*, seeds=2, {scale}workdir):\n"
        f"    return Outcome([Figure('toy figure', [{value}] * seeds, 'nats', 1.0, 'exact', 0.1)])\n"
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own with one experiment, a page, and no results."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "README.md").write_text(f"{reproduce.BEGIN}\n{reproduce.END}\n")
    for module in (figures, reproduce):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "RESULTS", folder / "results")
    monkeypatch.setattr(reproduce, "README", folder / "README.md")
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("toy", None)


@pytest.mark.parametrize(("value", "code", "mark"), [(1.05, 0, "✓"), (1.2, 1, "✗ missed")])
def test_an_experiment_is_run_kept_and_shown(project, value, code, mark):
    _toy(project, value=value)
    assert reproduce.reproduce(("toy",), seeds=3) == code
    content = json.loads((project / "results" / "toy-cpu.json").read_text())
    assert content["figures"][0]["values"] == [value] * 3
    assert content["command"] == "python experiments/reproduce.py toy --seeds 3 --scale cpu"
    page = (project / "README.md").read_text()
    assert mark in page
    assert "toy figure" in page
    (project / "results" / "toy-cpu.json").unlink()
    assert reproduce.reproduce(table=True) == 0
    assert "toy figure" not in (project / "README.md").read_text()


def test_an_experiment_takes_its_own_number_of_seeds_unless_told(project):
    _toy(project, value=1.0)
    reproduce.reproduce(("all",))
    assert json.loads((project / "results" / "toy-cpu.json").read_text())["seeds"] == 2


def test_what_cannot_be_run_says_why(project):
    _toy(project, value=1.0)
    with pytest.raises(UserError, match="did you mean 'toy'"):
        reproduce.reproduce(("toi",))
    with pytest.raises(UserError, match="name an experiment, or all: toy"):
        reproduce.reproduce()
    assert reproduce.reproduce(("toy",), seeds=0) == 2
    assert not (project / "results" / "toy-cpu.json").exists()


def test_an_experiment_of_one_setting_has_no_other_scale(project, capsys):
    _toy(project, value=1.0)
    assert reproduce.reproduce(("toy",), scale="full") == 2
    assert "toy has one setting" in capsys.readouterr().err
    assert reproduce.reproduce(("all",), scale="full") == 0
    assert not (project / "results").exists()


def test_an_experiment_of_two_settings_is_told_which(project):
    _toy(project, value=1.0, scale="scale='cpu', ")
    assert reproduce.reproduce(("all",), scale="full") == 0
    assert (project / "results" / "toy-full.json").exists()
