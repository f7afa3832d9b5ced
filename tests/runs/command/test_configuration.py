"""``--config FILE``: settings by the names of the options, beside which options count more; a run's own config.json is such a file."""

import json
import os
import re
import sys

import pytest
from hypothesis import example, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from tests import forgeries
from tests.answers import answered
from wgf.agents import Agent
from wgf.agents.training.schedule import Schedule
from wgf.runs.command import configuration
from wgf.runs.command.options import Place, What
from wgf.runs.trainer.training import resolve

MINE = """
# a comment
agent: sac
env: wgf/CartPole-v0
preset: modern
steps: 60
warmup: 20
hidden: [8, 8]
batch: 8
eval-every: 30
eval_episodes: 2
log_every: 15
"""
CARTPOLE = "agent: sac\nenv: wgf/CartPole-v0\n"


def settings(person, place="main", seed=0):
    """config.json of the one run of a study."""
    (path,) = (person.folder / "runs" / place).glob(f"*/*/seed-{seed}/config.json")
    return json.loads(path.read_text())


def policies(folder):
    """Every policy file below a folder by its path, with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("policy*"))}


def test_the_file_counts_more_than_the_preset_and_an_option_more_than_the_file(person):
    (person.folder / "mine.yaml").write_text(MINE + "lr: 2e-3\nthreads: 1\n")
    assert person("train", "--config", "mine.yaml")[0] == 0
    about = settings(person)
    assert (about["preset"], about["schedule"]["steps"], about["config"]["hidden"], about["config"]["lr"]) == ("modern", 60, [8, 8], 2e-3)
    assert about["config"]["activation"] == "relu"  # as in the preset that the file names; in the other it is tanh
    assert person("train", "ddpg", "--config", "mine.yaml", "--lr", "0.005", "--steps", "40", "--seeds", "2", "--name", "other")[0] == 0
    about = settings(person, "other", 1)
    assert (about["agent"], about["config"]["lr"], about["schedule"]["steps"], about["stack"]) == ("ddpg", 0.005, 40, [0, 1])
    assert about["config"]["batch"] == 8


def test_the_config_of_a_run_trains_the_same_policies_byte_by_byte(person):
    (person.folder / "mine.yaml").write_text(MINE + "seeds: 2\nfirst-seed: 3\nlr: 1e-5\n")
    assert person("train", "--config", "mine.yaml", "--compile", "False")[0] == 0
    (path,) = (person.folder / "runs").rglob("seed-4/config.json")
    assert person("train", "--config", path, "--out", "again")[0] == 0
    first, again = policies(person.folder / "runs"), policies(person.folder / "again")
    assert len(first) == 8  # of two seeds, the last policy and the best
    assert first == again
    assert person("train", "--config", path)[1].endswith("finished before; with more --steps they would go on\n")  # the same identity
    plain = json.loads(path.read_text())
    del plain["seal"]
    plain["config"]["lr"] = 1e-4
    (person.folder / "edited.json").write_text(json.dumps(plain))
    assert person("train", "--config", "edited.json", "--name", "edited")[0] == 0
    assert settings(person, "edited", 3)["config"]["lr"] == 1e-4


def test_what_was_edited_under_its_seal_is_refused(person):
    (person.folder / "mine.yaml").write_text(MINE)
    assert person("train", "--config", "mine.yaml")[0] == 0
    (path,) = (person.folder / "runs").rglob("config.json")
    (person.folder / "config.json").write_text(path.read_text().replace('"lr": 0.0003', '"lr": 0.0004'))
    code, _, err = person("train", "--config", "config.json", "--name", "b")
    assert code == 2
    assert err.startswith("wgf: config.json is damaged or was edited: its seal does not fit its text")


def test_compare_takes_a_file_too(person):
    text = MINE.replace("agent: sac", "agents: ['sac:lr=1e-3', ddpg]").replace(
        "preset: modern", "preset: modern\nseeds: 2\nthreshold: null"
    )
    (person.folder / "mine.yaml").write_text(text.replace("hidden: [8, 8]\n", "").replace("batch: 8\n", ""))
    code, out, _ = person("compare", "--config", "mine.yaml", "--steps", "30", "--warmup", "30", "--seeds", "1")
    assert code == 0
    assert re.search(r"^sac,lr=1e-3  1 +30 ", out, re.MULTILINE)
    assert re.search(r"^ddpg +1 +30 ", out, re.MULTILINE)


def test_plain_words_stay_words_and_numbers_are_numbers(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1e-3\nb: .5\nc: 1_000\nd: 1.\ne: true\nf: no\ng: 010\nh: 1:30\ni: 2020-01-01\nj: '5'\nk: ~\nl: -3\nm: 1E5\nn: 0\n")
    expected = {"a": 1e-3, "b": 0.5, "c": 1000, "d": 1.0, "e": True, "f": "no", "g": "010", "h": "1:30", "i": "2020-01-01", "j": "5"}
    assert configuration.read(path, None, None) == expected | {"k": None, "l": -3, "m": 1e5, "n": 0}


def test_json_is_read_as_json_reads_it(tmp_path):
    value = {
        "lr": 1e-05,
        "tau": 5e-324,
        "big": 1.7976931348623157e308,
        "name": 'a "b" \\ \u00e9\n\U0001f600',
        "none": None,
        "on": [True, -1, 0.1],
    }
    (tmp_path / "a.json").write_text(json.dumps(value, indent=1))
    assert configuration.read(tmp_path / "a.json", None, None) == value


@pytest.mark.parametrize("given", ["agent: own:Mine\nenv: wgf/CartPole-v0\n", "agent: sac\nenv: own:Mine-v0\n"])
def test_no_module_that_a_file_names_is_imported_but_one_that_a_person_names_is(person, given):
    (person.folder / "own.py").write_text(
        "from wgf.agents import sac as Mine\nimport gymnasium as gym\ngym.register('Mine-v0', gym.spec('Pendulum-v1').entry_point)\n"
    )
    (person.folder / "mine.yaml").write_text(MINE.split("env:")[0].replace("agent: sac", "") + given + MINE.split("CartPole-v0")[1])
    code, _, err = person("train", "--config", "mine.yaml")
    assert code == 2
    what = "agent is 'own:Mine'" if "own:Mine\n" in given else "env is 'own:Mine-v0'"
    assert err.startswith(f"wgf: mine.yaml: its {what}, and no file makes this program import a module: name it yourself, by ")
    assert "own" not in sys.modules
    named = ["own:Mine"] if "own:Mine\n" in given else ["sac", "--env", "own:Mine-v0"]
    try:
        assert person("train", *named, "--config", "mine.yaml", "--steps", "20")[0] == 0
    finally:
        sys.modules.pop("own", None)


def test_a_run_that_only_a_program_can_begin_says_so(person):
    small = {"hidden": (8,), "batch": 8, "warmup": 10, "eval_every": 20, "eval_episodes": 1, "device": "cpu"}
    import gymnasium as gym

    for name, env, seeds in (("own", lambda: gym.make("Pendulum-v1"), (0,)), ("apart", "Pendulum-v1", (0, 2))):
        Agent("sac", env, seeds=seeds, **small).learn(20, log=person.folder / name)
    words = "that run had an environment that a program gave, 'Pendulum-v1': name one with --env"
    assert person("train", "--config", "own/seed-0/config.json")[::2] == (2, f"wgf: own/seed-0/config.json: {words}\n")
    assert person("train", "--config", "own/seed-0/config.json", "--env", "Pendulum-v1")[0] == 0
    code, _, err = person("train", "--config", "apart/seed-0/config.json")
    assert (code, err) == (2, "wgf: apart/seed-0/config.json: stack is [0, 2]; the command line trains seeds that follow one another\n")
    about = json.loads((person.folder / "own/seed-0/config.json").read_text())
    del about["seal"], about["own"]
    for change, words in (
        ({"nets": ["q"]}, "that run had networks of its own, ['q']: train it from Python, with nets="),
        ({"stack": None}, "stack is None; the command line trains seeds that follow one another"),
        ({"stack": [0, 10**12]}, "stack is [0, 1000000000000]; the command line trains seeds that follow one another"),
    ):
        (person.folder / "a.json").write_text(json.dumps({**about, **change}))
        assert person("train", "--config", "a.json")[2] == f"wgf: a.json: {words}\n"


WRONG = {
    "agnet: sac\n": "mine.yaml names no agent; write one in it, as in agent: dp-wgf-v, or first: wgf train dp-wgf-v --config mine.yaml",
    "": "holds no settings; write one in a line, as in steps: 1000",
    "- sac": "holds no settings",
    "a: !!python/object/apply:os.system ['touch PWNED']": "line 1 cannot be read as YAML: a tag is not taken: write the value itself",
    "a: &a [1, 2]\nb: *a": "line 2 cannot be read as YAML: an alias is not taken: write the value itself",
    "a: &a {x: 1}\nb:\n  <<: *a": "line 3 cannot be read as YAML: an alias is not taken",
    "a: " + "[" * 5000 + "]" * 5000: "line 1 cannot be read as YAML: more than 20 levels",
    "a: 1\n---\nb: 2": "cannot be read as YAML: but found another document",
    "1: 2": "line 1 cannot be read as YAML: 1 is no name",
    "{a: 1}: 3": "line 1 cannot be read as YAML: {'a': 1} is no name",
    "steps 5\nlr: 4": "line 2 cannot be read as YAML: mapping values are not allowed here",
    b"name: \xe9t\xe9": "cannot be read as YAML: invalid continuation byte",
    'a: "\\ud800"': "cannot be read as YAML: unexpected end of data",
    b"a: \x00": "cannot be read as YAML: special characters are not allowed",
    "# " + "x" * 2**16: "and at most 0.1 MiB are read of it",
    "agent: 5": "agent is 5; it must be a word",
    "agent: sacc": "agent 'sacc' is unknown; choose from",
    "agent: sac\nenv: 5": "env is 5; it must be a word",
    "agent: sac\npreset: best": "preset 'best' is unknown to sac; choose from paper, modern",
    "seal: x\nagent: sac": "is damaged or was edited: its seal does not fit its text",
}
SETTINGS = {
    "steps: 5\nsteps: 6": "line 4 cannot be read as YAML: 'steps' comes twice",
    "eval-every: 5\neval_every: 6": "setting 'eval_every' comes twice",
    "stepss: 5": "setting 'stepss' is unknown; did you mean 'steps'?",
    "momentum: 5": "setting 'momentum' is unknown; choose from env, seeds, ",
    "config: other.yaml": "setting 'config' is unknown",
    "steps: 1e6": "steps is 1000000.0; it must be a whole number",
    "steps: '500'": "steps is '500'; it must be a whole number",
    "steps: true": "steps is True; it must be a whole number",
    "steps:": "steps is None; it must be a whole number",
    "steps: [5]": "steps is (5,); it must be a whole number",
    "steps: 0": "steps is 0; it must be at least 1",
    "steps: " + "9" * 5000: "cannot be read as YAML: Exceeds the limit",
    "lr: fast": "lr is 'fast'; it must be a number",
    "lr: .nan": "lr is '.nan'; it must be a number",
    "lr: -1": "lr is -1; it must be above 0",
    "hidden: 64,64": "hidden is '64,64'; it must be a list, each a whole number",
    "hidden: [64, x]": "hidden is (64, 'x'); it must be a list, each a whole number",
    "hidden: [64, 0]": "hidden is 64,0; it must be at most 100 layers",
    "name: a/b": "name is 'a/b'; it must be the name of one folder",
    "name: !!binary aGVsbG8=": "line 3 cannot be read as YAML: a tag is not taken",
    "seeds: 0": "seeds is 0; it must be at least 1",
    "compile: maybe": "compile is 'maybe'; it must be 'auto' or True or False",
    "threads: -1": "threads is -1; it must be from 0 to",
    "normalize: all": "normalize is 'all'; choose from 'none', ",
}


@pytest.mark.parametrize(("text", "answer"), [*WRONG.items(), *((CARTPOLE + text, answer) for text, answer in SETTINGS.items())])
def test_what_is_wrong_in_a_file_is_one_line_that_names_it(person, text, answer):
    (person.folder / "mine.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    code, _, err = person("train", "--config", "mine.yaml")
    assert code == 2
    assert re.fullmatch(r"wgf: mine\.yaml[^\n]*\n", err)
    assert answer in err
    assert os.listdir(person.folder) == ["mine.yaml"]


PIECES = [
    "a", "steps", "agent", "env", "sac", "Pendulum-v1", "hidden", "seal", "config", "schedule", "stack", "1", "-1", "1e999", "1_0", ".5",
    "~", "true", ": ", ":", "- ", "? ", "[", "]", "{", "}", ", ", "#", "&a ", "*a", "!!int ", "!!bool ", "!!timestamp ", "!!binary ",
    "!!float ''", "!!set ", "!!omap ", "!!merge ", "!", "!<x> ", "<<: ", "|", ">", "'", '"', "\\x", "%YAML 9.9", "---", "...", "\n",
    "\n  ", "\t", "\0", "\u2028", "\ufeff", "é",
    "9" * 5000, "x" * 5000, "[" * 3000, "- " * 3000, "? " * 500, "{a: " * 500,
]  # fmt: skip
GROUPS = {"task": What(), "agent": resolve("sac", "paper", "Hopper-v5"), "schedule": Schedule(), "place": Place()}


@profile(max_examples=200)
@given(content=st.one_of(st.lists(st.sampled_from(PIECES), max_size=12).map(lambda parts: "".join(parts).encode()), forgeries.RAW))
@example(content=b"a: !!timestamp x")
@example(content=b"a: !!bool x")
@example(content=b"a: !!int ''")
def test_a_file_of_any_content_is_settings_or_one_line_that_names_it(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with forgeries.bounded():
        found, said = answered(configuration.read, path, None, None)
        if said is None:
            assert all(isinstance(name, str) for name in found)
            _, said = answered(configuration.applied, GROUPS, found, path)
    assert said is None or (str(path) in said and "\n" not in said and len(said) < 1000)


@profile(max_examples=60)
@given(data=st.data())
def test_a_config_of_a_run_that_somebody_wrote_is_settings_or_one_line_that_names_it(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "forged.json"
    run = {"agent": "sac", "preset": "paper", "env": "Pendulum-v1", "stack": [0, 1], "threads": 1, "nets": [], "own": False}
    run |= {"config": {"hidden": [8, 8], "lr": 1e-3, "batch": 4}, "schedule": {"steps": 9, "warmup": 2}, "versions": {"torch": "2"}}
    value = data.draw(forgeries.edited(run))
    path.write_text(json.dumps(value))
    with forgeries.bounded():
        found, said = answered(configuration.read, path, None, None)
        if said is None:
            _, said = answered(configuration.applied, GROUPS, {k: v for k, v in found.items() if k != "agent"}, path)
    assert said is None or (str(path) in said and "\n" not in said and len(said) < 1000)


WORDS = st.text(st.characters(codec="utf-8"), max_size=6)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=6)
)


@given(value=st.dictionaries(WORDS.filter(bool), st.one_of(PLAIN, st.lists(PLAIN, max_size=3)), min_size=1))
def test_what_json_writes_is_read_as_it_was(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "plain.json"
    kept = {name: part for name, part in value.items() if name.replace("-", "_") not in ("seal", "agent", "env", "preset")}
    path.write_text(json.dumps({"lr": 1, **kept}))
    assert configuration.read(path, None, None) == {name.replace("-", "_"): part for name, part in {"lr": 1, **kept}.items()}
