"""An experiment as data: grids, YAML, overrides, and the keys of its cells."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

import ovdecode as od
from ovdecode.errors import ConfigurationError, OvdecodeError, UnknownNameError
from ovdecode.experiment import Experiment
from ovdecode.experiment.cells import Cells, Versions
from ovdecode.experiment.identity import folder_digest, method_version
from ovdecode.models import ModelFolder, locate

YAML = """
models: [smollm2]
strategies:
  - greedy
  - {name: sampling, temperature: [0.5, 1e0], top_p: 0.9}
prompts:
  file: prompts.txt
  lines: 0:2
samples: 2
metrics: [{name: distinct_n, n: [1, 2]}, length]
"""


def plan(**changes: Any) -> Experiment:
    return Experiment.of({"strategies": ["greedy"], "prompts": ["a", "b"], **changes})


def cells(experiment: Experiment, **versions: Any) -> Cells:
    known = {
        "models": dict.fromkeys(experiment.models, "weights"),
        "strategies": dict.fromkeys(experiment.strategies, "1"),
        **versions,
    }
    return Cells(experiment, experiment.prompts.read(), Versions(**known))


def test_a_list_for_a_parameter_is_a_grid():
    grid = {"name": "sampling", "temperature": [0.5, 0.8], "top_p": [0.9, None]}
    assert plan(strategies=[grid]).strategies == (
        "sampling:temperature=0.5,top_p=0.9",
        "sampling:temperature=0.5",
        "sampling:temperature=0.8,top_p=0.9",
        "sampling:temperature=0.8",
    )


def test_grids_of_plugins_within_plugins():
    inner = {"name": "sampling", "processors": ["repetition:penalty=1.2|top_k:k=5", None]}
    assert plan(strategies=[{"name": "best_of_n", "n": 2, "strategy": inner}]).strategies == (
        "best_of_n:n=2,strategy=(sampling:processors=(repetition:penalty=1.2|top_k:k=5))",
        "best_of_n:n=2",  # its own default
    )


def test_a_parameter_that_takes_a_list_is_no_grid():
    banned = {"name": "greedy", "processors": {"name": "suppressed_tokens", "tokens": [1, 2]}}
    assert plan(strategies=[banned]).strategies == ("greedy:processors=(suppressed_tokens:tokens=[1,2])",)
    banned["processors"] = {"name": "suppressed_tokens", "tokens": [[1, 2], [3]]}
    assert len(plan(strategies=[banned]).strategies) == 2


def test_strategies_are_written_in_one_way_and_once():
    same = ["sampling:top_p=0.9,temperature=0.5", "sampling:temperature=.5,top_p=.9", od.Sampling(0.5, top_p=0.9)]
    assert plan(strategies=same).strategies == ("sampling:temperature=0.5,top_p=0.9",)


def test_yaml_and_overrides(tmp_path: Path):
    (tmp_path / "prompts.txt").write_text("tea\nrice\nsalt\n")
    file = tmp_path / "experiment.yaml"
    file.write_text(YAML)
    read = Experiment.read(file)
    assert read.strategies == (
        "greedy", "sampling:temperature=0.5,top_p=0.9", "sampling:temperature=1.0,top_p=0.9",
    )  # fmt: skip
    assert read.metrics == ("distinct_n:n=1", "distinct_n", "length")
    assert [prompt.text for prompt in read.prompts.read()] == ["tea", "rice"]
    other = Experiment.read(file, ["samples=5", "prompts.lines=1:3", "strategies=[greedy]", "stop=loop:repeats=3"])
    assert (other.samples, other.strategies, other.stop) == (5, ("greedy",), "loop:repeats=3")
    assert [prompt.text for prompt in other.prompts.read()] == ["rice", "salt"]


def test_plain_data_makes_the_same_experiment_again():
    one = plan(strategies=["greedy", "beam"], stop="loop", samples=3, metrics=["length"], threads=2)
    assert Experiment.of(one.plain()) == Experiment.restored(one.plain()) == pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strategies: [greedy", "must be YAML, but line 1"),
        ("- greedy", "must hold keys, such as `strategies"),
        ("", "must hold keys, such as `strategies"),
        ("strategies: [greedy]\nstrategies: [beam]\nprompts: [a]", "the key `strategies` is there twice"),
        ("strategies: [greedy]\nprompts: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("strategie: [greedy]\nprompts: [a]", "unknown key of the experiment `strategie`; did you mean `strategies`"),
        ("strategies: [greedy]", "must have the key `prompts`"),
        ("strategies: []\nprompts: [a]", "`strategies` must be a list of at least one method"),
        ("strategies: [greddy]\nprompts: [a]", "unknown strategy `greddy`; did you mean `greedy`"),
        (
            "strategies: [{name: sampling, top_pp: 1}]\nprompts: [a]",
            "parameter .*`top_pp`; did you mean `top_p`",
        ),
        ("strategies: [{name: sampling, top_p: 2}]\nprompts: [a]", "must be a number above 0 and at most 1, got 2"),
        ("strategies: [{name: sampling, top_p: []}]\nprompts: [a]", "a grid must have at least one value"),
        ("strategies: [{temperature: 1}]\nprompts: [a]", "or a mapping with a `name`"),
        ("strategies: [greedy]\nprompts: [a]\nmetrics: [lenght]", "unknown metric `lenght`; did you mean `length`"),
        ("strategies: [greedy]\nprompts: [a]\nsamples: 0", "`samples` must be a whole number of at least 1, got 0"),
        ("strategies: [greedy]\nprompts: [a]\nseed: x", "`seed` must be a whole number, got 'x'"),
        ("strategies: [greedy]\nprompts: [a]\nmax_new_tokens: 1.5", "`max_new_tokens` must be a whole number"),
        ("strategies: [greedy]\nprompts: [a]\nprecision: f32", "`precision` must be one of fast, invariant, exact"),
        ("strategies: [greedy]\nprompts: [a]\nmodels: []", "`models` must be a list of sources of models"),
        ("strategies: [greedy]\nprompts: [a]\nstop: lop", "unknown stopping `lop`"),
    ],
)
def test_bad_experiments(tmp_path: Path, text: str, message: str):
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    with pytest.raises(OvdecodeError, match=message):
        Experiment.read(file)


def test_bad_overrides(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="there is none; check the path"):
        Experiment.read(tmp_path / "none.yaml")
    file = tmp_path / "experiment.yaml"
    file.write_text("strategies: [greedy]\nprompts: [a]")
    with pytest.raises(ConfigurationError, match="must be key=value, such as samples=3, got 'samples'"):
        Experiment.read(file, ["samples"])
    with pytest.raises(UnknownNameError, match="did you mean `samples`"):
        Experiment.read(file, ["sample=3"])
    with pytest.raises(ConfigurationError, match=r"must be a mapping to set `strategies\.name`"):
        Experiment.read(file, ["strategies.name=beam"])
    with pytest.raises(ConfigurationError, match="the value of `seed` must be YAML"):
        Experiment.read(file, ["seed=[1"])
    assert Experiment.read(file, ["prompts.chat=true"]).prompts.chat


def test_cells_are_the_grid_in_its_order():
    grid = cells(plan(models=["x", "y"], strategies=["greedy", "beam"], samples=2))
    assert grid.shape == (2, 2, 2, 2)
    expected = [
        (model, prompt, strategy, sample)
        for model in "xy" for prompt in range(2) for strategy in ("greedy", "beam") for sample in range(2)
    ]  # fmt: skip
    assert [(cell.model, cell.prompt, cell.strategy, cell.sample) for cell in grid] == expected
    assert [cell.place for cell in grid] == list(range(16))
    assert [cell.key for cell in grid] == list(grid.keys())
    assert [grid.prompt_of(cell.place) for cell in grid] == [cell.prompt for cell in grid]
    with pytest.raises(IndexError):
        grid[16]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"max_new_tokens": 5}, {"stop": "loop"}, {"ignore_eos": True}, {"precision": "fast"},
        {"device": "GPU"}, {"strategies": ["beam"]}, {"prompts": ["c", "d"]},
        {"prompts": {"texts": ["a", "b"], "chat": True}},
    ],
)  # fmt: skip
def test_whatever_decides_a_result_is_in_its_key(change: dict[str, Any]):
    assert set(cells(plan()).keys()).isdisjoint(cells(plan(**change)).keys())


def test_versions_are_in_the_key():
    ours = set(cells(plan()).keys())
    assert ours.isdisjoint(cells(plan(), models={"smollm2": "other weights"}).keys())
    assert ours.isdisjoint(cells(plan(), strategies={"greedy": "2"}).keys())


@pytest.mark.parametrize("change", [{"samples": 3}, {"strategies": ["beam", "greedy"]}, {"prompts": ["z", "a", "b"]},
                                    {"metrics": ["length"]}, {"threads": 1}])  # fmt: skip
def test_an_experiment_grows_without_new_keys(change: dict[str, Any]):
    assert set(cells(plan()).keys()) <= set(cells(plan(**change)).keys())


def test_the_name_of_a_model_is_not_in_the_key():
    assert list(cells(plan()).keys()) == list(cells(plan(models=["/elsewhere/smollm2"])).keys())


def test_a_method_that_is_edited_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    source = "import ovdecode as od\nclass Mine(od.Greedy):\n    '''Mine.'''\n    name = 'mine'\n"
    (tmp_path / "my_method_file.py").write_text(source)
    import my_method_file  # type: ignore[import-not-found]

    mine = my_method_file.Mine()
    before = method_version(mine)
    assert method_version(od.Greedy()) == method_version(od.BestOfN()) != before
    assert method_version(od.BestOfN(strategy=mine)) == before
    (tmp_path / "my_method_file.py").write_text(source + "# edited\n")
    assert method_version(mine) != before


def test_the_digest_of_a_model_is_that_of_its_contents(smollm2_folder: ModelFolder, tmp_path: Path):
    for file in smollm2_folder.path.iterdir():
        (tmp_path / file.name).symlink_to(file)
    before = folder_digest(smollm2_folder)
    assert folder_digest(locate(tmp_path)) == before  # another place
    (tmp_path / "ovdecode.json").unlink()
    assert folder_digest(locate(tmp_path)) == before  # how it was converted
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 3}')
    assert folder_digest(locate(tmp_path)) != before
