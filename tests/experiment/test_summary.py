"""The table of an experiment: what is in it, how it reads, and that text in it is only text."""

from __future__ import annotations

import csv
import html.parser
import io
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiment_tables import STRATEGIES, experiment, go

import ovdecode as od
from ovdecode.errors import ConfigurationError, UnknownNameError
from ovdecode.experiment import Scores, Summary, summarise, summary
from ovdecode.experiment.figures import draw_intervals, draw_tradeoff, write_figures
from ovdecode.experiment.layout import win_sheets
from ovdecode.experiment.sheet import Sheet, escape_latex, escape_markdown, to_html, to_latex, to_markdown
from ovdecode.experiment.statistics import bca_interval, holm, paired_interval, permutation_test

METHODS = ("greedy", "sampling", "beam:num_beams=4")
HOSTILE = "<script>alert(1)</script> | a_b*c* 50% & $x$ ![i](u)\n# \\"


def texts(prompts: int = 8, samples: int = 2) -> list[Any]:
    """Three methods on one model: sampling adds 1 to the length of greedy, beam search repeats itself."""
    values = {
        "greedy": lambda prompt, sample: {"length": prompt % 4 + sample, "rep_n": 0.1 * (prompt % 3)},
        "sampling": lambda prompt, sample: {"length": prompt % 4 + 1 + sample, "rep_n": 0.1 * (prompt % 3)},
        "beam:num_beams=4": lambda prompt, sample: {"length": prompt % 4 + 0.5, "rep_n": 0.1 * prompt + 0.1},
    }
    return [
        ("m", method, prompt, values[method](prompt, sample))
        for prompt in range(prompts)
        for method in METHODS
        for sample in range(samples)
    ]


def table(**options: Any) -> Summary:
    return summarise(Scores.of(texts()), baseline="greedy", **options)


def test_figures_are_of_prompts_not_of_samples():
    row = table().row("greedy")
    lengths = [prompt % 4 + 0.5 for prompt in range(8)]
    assert row.estimates["length"] == bca_interval(lengths)
    assert (row.finished, row.failed, row.estimates["length"].n) == (16, 0, 8)


def test_comparisons_are_paired_and_adjusted_over_the_methods():
    found = table()
    greedy = [0.1 * (prompt % 3) for prompt in range(8)]
    beam = [0.1 * prompt + 0.1 for prompt in range(8)]
    one = found.row("beam:num_beams=4").comparisons["rep_n"]
    assert one.difference.value == pytest.approx(paired_interval(beam, greedy).value)
    assert one.p == permutation_test(beam, greedy) == 2 / 256
    same = found.row("sampling").comparisons["rep_n"]
    assert same.p == 1.0
    assert [same.p_adjusted, one.p_adjusted] == holm([same.p, one.p]).tolist() == [1.0, 4 / 256]
    assert found.row("greedy").comparisons == {}


def test_all_ties_are_no_difference():
    same = table().row("sampling").comparisons["rep_n"]
    assert (same.difference.value, same.difference.low, same.difference.reason) == (0.0, None, "all values are equal")
    assert (same.effect, same.delta, same.wins, same.ties, same.losses) == (0.0, 0.0, 0, 8, 0)
    assert same.prompts_needed is None


def test_wins_follow_what_is_better():
    found = table()
    repeats = found.row("beam:num_beams=4").comparisons["rep_n"]
    assert (repeats.wins, repeats.ties, repeats.losses) == (0, 0, 8)  # it repeats more, which is worse
    longer = found.row("sampling").comparisons["length"]
    assert (longer.wins, longer.ties, longer.losses) == (8, 0, 0)  # longer is neither: these are counts of higher
    assert found.win_matrix("rep_n").tolist() == [[0, 0, 8], [0, 0, 8], [0, 0, 0]]
    assert found.win_matrix("length").tolist() == [[0, 0, 0], [8, 0, 8], [0, 0, 0]]


def test_failed_texts_and_missing_values_are_counted():
    results = [*texts(), ("m", "greedy", 8, None), ("m", "sampling", 8, {"length": math.nan})]
    found = summarise(Scores.of(results), baseline="greedy")
    greedy, sampling = found.row("greedy"), found.row("sampling")
    assert (greedy.finished, greedy.failed) == (17, 1)
    assert (greedy.estimates["length"].n, greedy.estimates["length"].dropped) == (8, 1)
    assert (sampling.finished, sampling.failed, sampling.estimates["length"].dropped) == (17, 0, 1)
    assert sampling.comparisons["length"].difference.n == 8
    assert "(n=8)" in found.to_markdown()


def test_a_sample_without_a_value_leaves_its_prompt_to_the_others():
    results = [("m", "greedy", 0, {"length": 3.0}), ("m", "greedy", 0, {"length": math.nan}), ("m", "greedy", 0, None)]
    assert Scores.of(results).metrics["length"].tolist() == [[[3.0]]]


def test_never_a_bare_mean():
    found = summarise(Scores.of(texts(prompts=1)), baseline="greedy")
    assert found.row("greedy").estimates["length"].reason == "fewer than 6 prompts"
    page = found.sheets()[0]
    assert page.rows[0] == ("greedy", "2", "0", "0.5 [–]", "0 [–]")
    assert "No interval [–] for length, rep_n: fewer than 6 prompts." in page.notes
    assert found.row("sampling").comparisons["length"].p == 1.0


def test_each_model_is_compared_with_its_own_baseline():
    other = [
        ("n", method, prompt, {**values, "length": 10 * values["length"]}) for _, method, prompt, values in texts()
    ]
    found = summarise(Scores.of([*texts(), *other]), baseline="greedy")
    assert found.row("sampling", "m").comparisons["length"].difference.value == 1.0
    assert found.row("sampling", "n").comparisons["length"].difference.value == 10.0
    assert found.sheets()[0].head[:2] == ("model", "method")
    assert len(found.sheets()[1].rows) == 4


def test_no_results_make_an_empty_table():
    assert summarise(Scores.of([])).rows == ()
    assert summarise(Scores.of([("m", "greedy", 0, None)])).row("greedy").failed == 1


def test_bad_names_and_levels():
    with pytest.raises(UnknownNameError, match="unknown strategy of these results: `gredy`; did you mean `greedy`"):
        summarise(Scores.of(texts()), baseline="gredy")
    with pytest.raises(UnknownNameError, match="did you mean `length`"):
        table().win_matrix("lenght")
    with pytest.raises(UnknownNameError, match="unknown model of these results: `n`; known: m"):
        table().row("greedy", "n")
    with pytest.raises(ConfigurationError, match="`level` must be above 0 and below 1, got 95"):
        table(level=95)


def test_specs_are_the_same_in_any_spelling():
    found = summarise(Scores.of([("m", "sampling:temperature=0.5", 0, {})]), baseline="sampling:temperature=.50")
    assert found.baseline == "sampling:temperature=0.5"


def test_a_page_reads_like_this():
    page = table().sheets()[1]
    assert page.title == "length: difference to greedy"
    assert page.head[-2:] == ("higher/equal/lower", "prompts needed")
    assert page.rows[0] == ("sampling", "1 [–]", "0.008", "0.016", "∞", "0.44", "8/0/0", "6")
    assert table().sheets()[2].title == "rep_n ↓: difference to greedy"
    (wins,) = win_sheets(table(), "rep_n")
    assert wins.head == ("method", "1", "2", "3")
    assert wins.rows[0] == ("1 greedy", "–", "0", "8")


def test_csv_and_data_frame_hold_every_number():
    found = table()
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    frame = found.to_pandas()
    assert len(rows) == len(frame) == 6
    assert list(frame.columns) == list(rows[0])
    beam = found.row("beam:num_beams=4")
    line = next(row for row in rows if row["strategy"] == beam.strategy and row["metric"] == "rep_n")
    assert float(line["mean"]) == beam.estimates["rep_n"].value
    assert float(line["p_holm"]) == beam.comparisons["rep_n"].p_adjusted
    assert line["baseline"] == "greedy"
    assert next(row for row in rows if row["strategy"] == "greedy")["p"] == ""
    indexed = frame.set_index(["strategy", "metric"])
    assert indexed.loc[("sampling", "length"), "mean"] == found.row("sampling").estimates["length"].value


def test_without_pandas_and_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"a data frame needs `pandas`, .*'ovdecode\[report\]'"):
        table().to_pandas()
    with pytest.raises(ConfigurationError, match=r"a figure needs `matplotlib`, .*'ovdecode\[report\]'"):
        draw_intervals(table(), "length")


class Read(html.parser.HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile() -> Sheet:
    return Sheet(HOSTILE, (HOSTILE, "x"), ((HOSTILE, "1"),), notes=(HOSTILE,))


def test_html_shows_text_as_text():
    page = Read(to_html([hostile()]))
    assert page.tags <= {"div", "table", "caption", "b", "thead", "tbody", "tr", "th", "td", "p", "small"}
    assert page.text.count(HOSTILE) == 4
    assert Read(table()._repr_html_()).text.startswith("Methods")


def test_markdown_shows_text_as_text():
    assert escape_markdown(HOSTILE) == r"\<script\>alert(1)\</script\> \| a\_b\*c\* 50% \& \$x\$ !\[i\](u) \# \\"
    lines = to_markdown([hostile()]).splitlines()
    assert [line.replace("\\|", "").count("|") for line in lines[2:5]] == [3, 3, 3]


def test_latex_shows_text_as_text():
    shown = escape_latex(HOSTILE)
    assert shown == (
        r"\textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{} \textbar{} a\_b*c* 50\% \& \$x\$ "
        r"![i](u) \# \textbackslash{}"
    )
    assert escape_latex("--draft ,, {~^}") == r"-{}-draft ,{}, \{\textasciitilde{}\textasciicircum{}\}"
    assert escape_latex("[x]") == "{[}x]"
    assert escape_latex("−0.5 – ∞") == r"$-$0.5 \textendash{} $\infty$"
    page = to_latex([hostile()])
    body = page.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert body == f"\n  {shown} & 1 \\\\\n  "
    assert page.count(r"\begin{") == page.count(r"\end{") == 2


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_figures_by_suffix(tmp_path: Path, suffix, magic):
    files = write_figures(table(), tmp_path / "figures", suffix=suffix)
    assert [file.name for file in files] == [f"length{suffix}", f"rep_n{suffix}", f"length-rep_n{suffix}"]
    assert all(file.read_bytes().startswith(magic) for file in files)


def test_a_figure_shows_means_and_intervals():
    found = table()
    (axes,) = draw_intervals(found, "length").axes
    shown = [container.lines[0].get_xdata()[0] for container in axes.containers]
    assert shown == [found.row(method).estimates["length"].value for method in METHODS]
    (bar,) = axes.containers[0].lines[2]
    estimate = found.row("greedy").estimates["length"]
    assert bar.get_segments()[0][:, 0] == pytest.approx([estimate.low, estimate.high])
    assert [label.get_text() for label in axes.get_yticklabels()] == list(METHODS)


def test_the_front_joins_what_nothing_beats():
    results = [
        ("m", method, prompt, {"exact_match": quality, "rep_n": repeats, "length": quality})
        for method, quality, repeats in (("greedy", 0.2, 0.1), ("sampling", 0.9, 0.5), ("beam", 0.1, 0.4))
        for prompt in range(2)
    ]
    found = summarise(Scores.of(results))
    (axes,) = draw_tradeoff(found, "rep_n", "exact_match").axes
    (front,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert front.get_xydata().tolist() == [[0.1, 0.2], [0.5, 0.9]]
    (axes,) = draw_tradeoff(found, "rep_n", "length").axes  # longer is neither better nor worse
    assert not [line for line in axes.lines if line.get_linestyle() == "--"]


def test_text_in_figures_is_not_mathematics(tmp_path: Path):
    """A method's `$` once began a formula, and an unfinished one ended the drawing."""
    results = [
        ("m", spec, prompt, {r"$\x$": prompt, "b$": prompt}) for spec in (r"a$\frac$", "_") for prompt in range(2)
    ]
    for file in write_figures(summarise(Scores.of(results)), tmp_path, suffix=".svg"):
        assert file.stat().st_size


def test_names_of_files_are_harmless_and_differ(tmp_path: Path):
    results = [("m", "s", prompt, {"../a:b": 1.0, "../a/b": 2.0, "//": 3.0}) for prompt in range(2)]
    files = write_figures(summarise(Scores.of(results)), tmp_path, suffix=".svg")
    assert [file.name for file in files[:3]] == ["a_b.svg", "a_b_2.svg", "metric.svg"]


def test_figures_say_what_they_need(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="must be a folder that can be written"):
        write_figures(table(), tmp_path / "file")
    with pytest.raises(ConfigurationError, match=r"`suffix` must be one of \.pdf, \.svg, \.png, got '\.gif'"):
        write_figures(table(), tmp_path, suffix=".gif")


def test_a_store_is_summarised(tmp_path: Path):
    store = go(tmp_path)
    found = summary(store, baseline="greedy")
    assert [row.strategy for row in found.rows] == STRATEGIES
    assert found.metrics == ("length", "distinct_n", "self_bleu")
    row = found.row("sampling")
    records = [record for record in store.records() if record.strategy == "sampling"]
    assert row.finished == len(records) == 6
    assert row.estimates["length"].value == 4.0
    assert found.costs == ("forwards", "tokens_per_second", "time_to_first_token")  # the length was measured already
    assert row.estimates["forwards"].value == np.mean([record.forwards for record in records])
    distinct = store.values("distinct_n")[0, :, STRATEGIES.index("sampling")]
    assert row.estimates["distinct_n"].value == pytest.approx(distinct.mean())
    whole = row.estimates["self_bleu"]
    assert whole.value == store.set_values("self_bleu")[0, STRATEGIES.index("sampling")]
    assert whole.reason == "one value for all texts together"
    assert "self_bleu" not in row.comparisons


def test_only_the_metrics_that_were_asked_for(tmp_path: Path):
    store = go(tmp_path)
    found = summary(store, ["distinct_n"])
    assert found.metrics == ("distinct_n",)
    assert found.costs[0] == "length"
    with pytest.raises(UnknownNameError, match="unknown metric of these results: `rep_n`"):
        summary(store, ["rep_n"])


@od.register("now_and_then")
class NowAndThen(od.Strategy):
    """Fails on every prompt that ends in b."""

    def decode(self, prompt: od.Sequence, stop: Any, rng: od.Random) -> Any:
        logits = yield prompt
        if prompt.tokens[-1] == 1:
            raise RuntimeError("no b")
        return prompt + logits.argmax()


def test_failures_of_a_store_are_counted(tmp_path: Path):
    found = summary(go(tmp_path, experiment(strategies=["now_and_then"], metrics=["length", "numeric_answer"])))
    (row,) = found.rows
    assert (row.finished, row.failed) == (6, 3)
    assert (row.estimates["length"].n, row.estimates["length"].dropped) == (1, 1)
    assert row.estimates["forwards"].n == 1
    assert math.isnan(row.estimates["numeric_answer"].value)
    assert found.sheets()[0].rows == (("now_and_then", "6", "3", "1 [–] (n=1)", "–"),)
