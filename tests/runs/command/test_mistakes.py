"""Every mistaken command line is answered in one line that names what is wrong, with exit code 2, and leaves no file."""

import re
from pathlib import Path

import pytest

from wgf.runs.studies.main import main as study

LONG = "n" * 400
CARTPOLE = "--env wgf/CartPole-v0"
# a command line, and what its answer says; _ is an empty word, FILE an ordinary file, LONG a name of 400 letters,
# and MANY of sixty numbers
LINES = f"""
trian                                                   | command 'trian' is unknown
_                                                       | command '' is unknown
Train                                                   | command 'Train' is unknown
--verison                                               | command '--verison' is unknown
agents sac                                              | agents takes no arguments, not 'sac'
train                                                   | train needs an agent first
train --env Hopper-v5                                   | train needs an agent first
train _                                                 | agent '' is unknown
train SAC                                               | agent 'SAC' is unknown
train dpwgf                                             | (did you mean 'dp-wgf'?)
train nowhere:Agent {CARTPOLE}                          | agent 'nowhere:Agent' cannot be imported
train math:pi {CARTPOLE}                                | agent 'math:pi' has no Config
train : {CARTPOLE}                                      | agent ':' cannot be imported
train sac --preset papre                                | preset 'papre' is unknown
train sac --preset                                      | --preset needs a value
train sac --stesp 5                                     | option --stesp is unknown
train sac -v                                            | argument '-v' is not understood
train sac more                                          | argument 'more' is not understood
train sac --env                                         | --env needs a value
train sac --env _                                       | environment '' cannot be made
train sac --env Nothing-v0                              | environment 'Nothing-v0' cannot be made
train sac --env Pendulum                                | environment 'Pendulum' has no version
train sac --env Pendulum-v99                            | environment 'Pendulum-v99' cannot be made
train sac --env nowhere:Mine-v0                         | environment 'nowhere:Mine-v0' cannot be made
train sac --env wgf/Nope-v0                             | environment 'wgf/Nope-v0' cannot be made
train sac --env CartPole-v1                             | Discrete(2) actions
train sac {CARTPOLE} --steps 0                          | steps is 0; it must be at least 1
train sac {CARTPOLE} --steps -5                         | steps is -5; it must be at least 1
train sac {CARTPOLE} --steps 1e5                        | --steps is '1e5'; it must be a whole number
train sac {CARTPOLE} --steps ten                        | --steps is 'ten'; it must be a whole number
train sac {CARTPOLE} --steps                            | --steps needs a value
train sac {CARTPOLE} --steps --warmup 3                 | --steps needs a value
train sac {CARTPOLE} --steps _                          | --steps is ''; it must be a whole number
train sac {CARTPOLE} --warmup -1                        | warmup is -1; it must be at least 0
train sac {CARTPOLE} --replay 0                         | replay is 0; it must be at least 4
train sac {CARTPOLE} --eval-every 0                     | eval_every is 0; it must be at least 1
train sac {CARTPOLE} --log-every 0                      | log_every is 0; it must be at least 1
train sac {CARTPOLE} --eval-episodes 0                  | eval_episodes is 0; it must be at least 1
train sac {CARTPOLE} --checkpoint-every -1              | checkpoint_every is -1; it must be at least 0
train sac {CARTPOLE} --normalize all                    | --normalize is 'all'; choose from
train sac {CARTPOLE} --seeds 0                          | seeds is 0; it must be at least 1
train sac {CARTPOLE} --seeds two                        | --seeds is 'two'; it must be a whole number
train sac {CARTPOLE} --seeds 1234567890123              | seeds is 1234567890123; seeds must lie from 0 to 999,999
train sac {CARTPOLE} --first-seed 1234567890123         | first-seed is 1234567890123; seeds must lie from 0 to 999,999
train sac {CARTPOLE} --first-seed -1                    | first-seed is -1
train sac {CARTPOLE} --lr fast                          | --lr is 'fast'; it must be a number
train sac {CARTPOLE} --lr nan                           | lr is nan; it must be above 0
train sac {CARTPOLE} --lr inf                           | lr is inf; it must be above 0
train sac {CARTPOLE} --lr 0                             | lr is 0.0; it must be above 0
train sac {CARTPOLE} --gamma nan                        | gamma is nan; it must be from 0 to 1
train sac {CARTPOLE} --tau 2                            | tau is 2.0
train sac {CARTPOLE} --batch 0                          | batch is 0; it must be at least 1
train sac {CARTPOLE} --batch 1.5                        | --batch is '1.5'; it must be a whole number
train sac {CARTPOLE} --hidden 64 64                     | argument '64' is not understood; put commas between numbers
train sac {CARTPOLE} --hidden 10000000 10000000         | argument '10000000' is not understood; put commas between numbers
train sac {CARTPOLE} --hidden 64,                       | --hidden: '' in '64,' is not a whole number
train sac {CARTPOLE} --hidden 64,x                      | --hidden: 'x' in '64,x' is not a whole number
train sac {CARTPOLE} --hidden -8                        | hidden is -8
train sac {CARTPOLE} --hidden 64;64                     | '64;64' is not a whole number
train sac {CARTPOLE} --activation gelu                  | activation is gelu; it must be tanh or relu
train sac {CARTPOLE} --envs 0                           | envs is 0; it must be at least 1
train sac {CARTPOLE} --n-step 0                         | n_step is 0; it must be at least 1
train dp-wgf {CARTPOLE} --w2 none                       | --w2 is 'none'; choose from
train dp-wgf-v {CARTPOLE} --particles 30                | particles is 30; it must be a multiple of components, 4
train sac {CARTPOLE} --threads -1                       | threads is -1; it must be from
train sac {CARTPOLE} --threads 100000                   | threads is 100000; it must be from
train sac {CARTPOLE} --threads 1234567890123            | threads is 1234567890123; it must be from
train sac {CARTPOLE} --threads 1.5                      | --threads is '1.5'; it must be a whole number
train sac {CARTPOLE} --device gpu                       | device 'gpu' is unknown; use auto, cpu, cuda or cuda:N
train sac {CARTPOLE} --device _                         | device '' is unknown
train sac {CARTPOLE} --device CPU                       | device 'CPU' is unknown
train sac {CARTPOLE} --device cuda:99                   | device 'cuda:99' is not available
train sac {CARTPOLE} --device cuda:99999999999999999999 | device 'cuda:99999999999999999999' is unknown
train sac {CARTPOLE} --compile maybe                    | --compile is 'maybe'; choose from
train sac {CARTPOLE} --backend brax                     | --backend is 'brax'; choose from
train sac {CARTPOLE} --name _                           | name is ''; it must be the name of one folder
train sac {CARTPOLE} --name ..                          | name is '..'; it must be the name of one folder
train sac {CARTPOLE} --name a/b                         | name is 'a/b'; it must be the name of one folder
train sac {CARTPOLE} --name LONG                        | name has 400 bytes; a folder's name has at most 255
train sac {CARTPOLE} --out LONG                         | File name too long
train sac {CARTPOLE} --out _                            | out is ''; it must be a folder
train sac {CARTPOLE} --out /proc/x                      | /proc/x
train sac {CARTPOLE} --out /dev/null                    | /dev/null
train sac {CARTPOLE} --out FILE                         | FILE
train sac {CARTPOLE} --out FILE/below                   | FILE/below
train                       --help-me                   | train needs an agent first
compare {CARTPOLE} --agents                             | agents is empty; name at least one
compare {CARTPOLE} --agents --out a                     | agents is empty; name at least one
compare {CARTPOLE} --agents sac sac                     | agent 'sac' is named twice
compare {CARTPOLE} --agents a2c                         | agent 'a2c' is unknown
compare {CARTPOLE} --agents _                           | agent '' is unknown
compare {CARTPOLE} --agents sac,ddpg                    | agent 'sac,ddpg' is unknown
compare {CARTPOLE} --agents sac:                        | setting '' is not FIELD=VALUE
compare {CARTPOLE} --agents sac:lr                      | setting 'lr' is not FIELD=VALUE
compare {CARTPOLE} --agents sac:lr=                     | lr is ''; it must be a number
compare {CARTPOLE} --agents sac:lr=x                    | lr is 'x'; it must be a number
compare {CARTPOLE} --agents sac:lr=-1                   | lr is -1.0; it must be above 0
compare {CARTPOLE} --agents sac:speed=1                 | setting 'speed=1' is not FIELD=VALUE
compare {CARTPOLE} --agents sac:preset=best             | preset 'best' is unknown
compare {CARTPOLE} --agents sac:activation=../../x      | activation is ../../x
compare {CARTPOLE} --seeds 0                            | seeds is 0
compare {CARTPOLE} --seeds -1                           | seeds is -1
compare {CARTPOLE} --seed -1                            | option --seed is unknown; did you mean --first-seed or --seeds?
compare {CARTPOLE} --threshold abc                      | --threshold is 'abc'; it must be a number
compare {CARTPOLE} --threshold nan                      | threshold is nan; it must be a finite number
compare {CARTPOLE} --threshold                          | --threshold needs a value
compare {CARTPOLE} --agents sac:hidden=MANY          | bytes; a folder's name has at most 255
compare --env Nothing-v0                                | environment 'Nothing-v0' cannot be made
compare {CARTPOLE} --out /proc/x                        | /proc/x
compare {CARTPOLE} --out FILE                           | FILE
compare {CARTPOLE} --name LONG                          | name has 400 bytes; a folder's name has at most 255
compare {CARTPOLE} --threads 100000                     | threads is 100000; it must be from
compare {CARTPOLE} --device gpu                         | device 'gpu' is unknown
eval                                                    | RUN is missing
eval nowhere                                            | nowhere/policy.json cannot be read: No such file or directory
eval _                                                  | policy.json cannot be read: No such file or directory
eval FILE                                               | FILE/policy.json cannot be read: Not a directory
eval LONG                                               | File name too long
eval . --episodes 0                                     | episodes is 0; it must be at least 1
eval . --episodes -3                                    | episodes is -3; it must be at least 1
eval . --episodes many                                  | --episodes is 'many'; it must be a whole number
eval . --video film.avi                                 | video 'film.avi' must be an .mp4 file
eval . --video nowhere/film.mp4                         | video 'nowhere/film.mp4' must be an .mp4 file
eval . --vidoe film.mp4                                 | option --vidoe is unknown
eval a b                                                | argument 'b' is not understood
resume                                                  | RUN is missing
resume nowhere                                          | nowhere/config.json cannot be read
resume FILE                                             | FILE/config.json cannot be read
resume nowhere --steps x                                | --steps is 'x'; it must be a whole number
resume nowhere --step 5                                 | option --step is unknown; did you mean --steps?
multigoal --seeds 0                                     | seeds is 0; it must be at least 1
multigoal --steps 0                                     | steps is 0; it must be at least 1
multigoal --episodes 0                                  | episodes is 0; it must be at least 1
multigoal --agents sac                                  | --agents is 'sac'; choose from
multigoal --agents                                      | agents is empty; name at least one
multigoal --agents dp-wgf dp-wgf                        | agent 'dp-wgf' is named twice
multigoal --backup hard                                 | --backup is 'hard'; choose from
multigoal --steps 20 --out /proc/x                      | /proc/x
multigoal --steps 20 --out FILE                         | FILE
multigoal --steps 20 --name ../x                        | name is '../x'; it must be the name of one folder
multigoal --steps 20 --name LONG                        | name has 400 bytes; a folder's name has at most 255
multigoal --threads -2                                  | threads is -2
bnn                                                     | data is not given
bnn --data nowhere                                      | data is 'nowhere', which is not a folder
bnn --data FILE                                         | data is 'FILE', which is not a folder
bnn --data LONG                                         | File name too long
bnn --data . --sets bostn                               | set 'bostn' is unknown
bnn --data . --sets                                     | sets is empty; name at least one
bnn --data . --methods                                  | methods is empty; name at least one
bnn --data . --methods sgvd                             | method 'sgvd' is unknown
bnn --data . --methods wgf:w3=exact                     | setting 'w3=exact' is not FIELD=VALUE
bnn --data . --methods svgd:lr=x                        | lr is 'x'; it must be a number
bnn --data . --methods svgd:lr=-1                       | lr is -1.0
bnn --data . --sets boston                              | there is no
bnn --data . --name ../../x                             | name is '../../x'; it must be the name of one folder
bnn --data . --name _                                   | name is ''; it must be the name of one folder
bnn --data . --out _                                    | out is ''; it must be a folder
bnn --data . --threads -1                               | threads is -1; it must be from
bnn --data . --threads 0                                | threads is 0; it must be from
bnn --data . --threads 100000                           | threads is 100000; it must be from
bnn --data . --device gpu                               | device 'gpu' is unknown
bnn --data . --iterations 0                             | iterations is 0
bnn --data . --particles 0                              | particles is 0
bnn --data . --particles x                              | --particles is 'x'; it must be a whole number
bnn --data . --splits -1                                | splits is -1
bnn --data . --splits 99                                | splits is 99; boston has 20
bnn --data . --seed -1                                  | seed is -1; it must be from 0 to
bnn --data . --seed 1234567890123456789012              | seed is 1234567890123456789012
bnn --data . --tuned perhaps                            | --tuned is 'perhaps'
bnn --data . --compile auto                             | --compile is 'auto'
bnn-data                                                | bnn-data needs a word first
bnn-data get --data a                                   | bnn-data needs a word first
bnn-data fetch                                          | --data is missing
bnn-data fetch --data                                   | --data needs a value
bnn-data fetch --data a --sets mnist                    | set 'mnist' is unknown
bnn-data fetch --data a --sets                          | sets is empty; name at least one
bnn-data fetch --data FILE --sets boston                | FILE
bnn-data fetch --data /proc/x --sets boston             | /proc/x
study figure                                            | study 'figure' is unknown
study _                                                 | study '' is unknown
study natural --updates -1                              | updates is -1; it must be at least 1
study natural --updates x                               | --updates is 'x'; it must be a whole number
study natural --seed -1                                 | seed is -1; it must be from 0 to
study natural --seed 123456789012345678901234           | seed is 123456789012345678901234
study natural --out FILE                                | FILE
study natural --out FILE/below                          | FILE/below
study natural --out /proc/x                             | /proc/x
study natural --out LONG                                | File name too long
study natural --upd 3                                   | option --upd is unknown
study wpo_mixture --out FILE                            | FILE
study wpo_mixture --out FILE/below                      | FILE/below
study wpo_mixture --iterations 0                        | iterations is 0; it must be at least 1
study wpo_mixture --batch 0                             | batch is 0; it must be at least 1
study wpo_mixture --lr nan                              | lr is nan; it must be above 0
study wpo_mixture --lr -1                               | lr is -1.0; it must be above 0
study wpo_mixture --seeds 0                             | seeds is 0; it must be from 1 to
study bnn_spread --repeats 0                            | repeats is 0; it must be at least 1
study bnn_spread --repeats -4                           | repeats is -4; it must be at least 1
study bnn_spread --steps 0                              | steps is 0; it must be at least 1
study bnn_spread --out FILE                             | FILE
study bnn_spread --out /proc/x                          | /proc/x
study fokker_planck --particles 0                       | particles is 0; it must be from 2 to 10,000
study fokker_planck --particles 1                       | particles is 1; it must be from 2 to 10,000
study fokker_planck --out FILE                          | FILE
study figure1 --tasks                                   | tasks is empty; name at least one
study figure1 --tasks Hopper                            | tasks has 'Hopper'; it may have
study figure1 --tasks CartPole CartPole                 | task 'CartPole' is named twice
study figure1 --alphas x                                | --alphas: 'x' in 'x' is not a number
study figure1 --alphas _                                | alphas is empty
study figure1 --alphas -1                               | alphas has -1.0; it must be above 0
study figure1 --alphas 6,6                              | named twice
study figure4 --methods sac                             | methods has 'sac'; it may have es, bges
study figure4 --methods es es                           | method 'es' is named twice
study figure4 --iterations 30                           | iterations is 30; it must be a multiple of 20
study figure4 --iterations 0                            | iterations is 0; it must be at least 20
study figure4 --pairs -1                                  | pairs is -1; it must be at least 0
study figure1 --iterations 0                            | iterations is 0; it must be at least 1
study figure1 --seeds 0                                 | seeds is 0; it must be at least 2
study figure1 --iterations 1 --out /proc/x              | /proc/x
study figure1 --iterations 1 --name LONG                | name has 400 bytes; a folder's name has at most 255
study bnn --data . --name ../x                          | name is '../x'; it must be the name of one folder
study multigoal --episodes -1                           | episodes is -1; it must be at least 1
doctor --env Hopper-v5                                  | doctor needs an agent first
doctor nobody                                           | agent 'nobody' is unknown
doctor _                                                | agent '' is unknown
doctor --helpp                                          | doctor needs an agent first
doctor sac --steps x                                    | --steps is 'x'; it must be a whole number (see wgf doctor sac --help)
doctor sac {CARTPOLE} --stepss 5                        | option --stepss is unknown; did you mean --steps?
doctor sac --env Nothing-v0                             | environment 'Nothing-v0' cannot be made
doctor sac {CARTPOLE} --device cuda:77                  | device 'cuda:77' is not available
doctor sac {CARTPOLE} --seeds 0                         | seeds is 0; it must be at least 1
doctor sac {CARTPOLE} --name a/b                        | name is 'a/b'; it must be the name of one folder
doctor sac {CARTPOLE} --out _                           | out is ''; it must be a folder
doctor sac more                                         | argument 'more' is not understood
doctor nowhere:Agent {CARTPOLE}                         | agent 'nowhere:Agent' cannot be imported: No module named 'nowhere'
doctor --config nowhere.yaml                            | nowhere.yaml cannot be read: No such file or directory; give a file of settings
doctor --config FILE                                    | FILE holds no settings
train --config                                          | train needs an agent first
train sac --config                                      | --config needs a value
train --config _                                        | . is no regular file; only such files are read
train --config nowhere.yaml                             | nowhere.yaml cannot be read: No such file or directory; give a file of settings
train --config FILE                                     | FILE holds no settings; write one in a line, as in steps: 1000
train sac --config=FILE                                 | FILE holds no settings
train --config /dev/null                                | /dev/null is no regular file
train --config LONG                                     | File name too long
train --conf FILE                                       | train needs an agent first
train sac --conf FILE                                   | option --conf is unknown; did you mean --config?
compare --config                                        | --config needs a value
compare --config _                                      | . is no regular file
compare --config FILE                                   | FILE holds no settings
compare --config nowhere.yaml                           | nowhere.yaml cannot be read: No such file or directory; give a file of settings
eval . --config FILE                                    | option --config is unknown
resume . --config FILE                                  | option --config is unknown
resume . --threads 2                                    | option --threads is unknown
resume . --steps 0                                      | steps is 0; it must be at least 1
resume . --steps -5                                     | steps is -5; it must be at least 1
resume . --steps 1e5                                    | --steps is '1e5'; it must be a whole number
resume . --env                                          | --env needs a value
resume LONG                                             | File name too long
resume /dev/null                                        | /dev/null/config.json cannot be read: Not a directory
resume a b                                              | argument 'b' is not understood
eval . --episodes 1e3                                   | --episodes is '1e3'; it must be a whole number
eval . --agent                                          | --agent needs a value
eval . --video                                          | --video needs a value
eval . --video _                                        | video '.' must be an .mp4 file
eval . --video FILE/film.mp4                            | video 'FILE/film.mp4' must be an .mp4 file in a folder that exists
eval . --device cpu                                     | option --device is unknown
eval --episodes 3                                       | RUN is missing
eval /dev/null                                          | /dev/null/policy.json cannot be read: Not a directory
agents -v                                               | agents takes no arguments, not '-v'
-v                                                      | command '-v' is unknown
show FILE                                               | command 'show' is unknown
train sac {CARTPOLE} --lr 1,5                           | --lr is '1,5'; it must be a number
train sac {CARTPOLE} --lr 1e400                         | lr is inf; it must be above 0
train sac {CARTPOLE} --lr 0x10                          | --lr is '0x10'; it must be a number
train sac {CARTPOLE} --hidden 1e3                       | --hidden: '1e3' in '1e3' is not a whole number
train sac {CARTPOLE} --hidden 99999999999999999999      | it must be a list, each a whole number of at most 18 digits
train sac {CARTPOLE} --eval-episodes 9999999999         | give fewer --episodes, --eval-episodes, --envs or --seeds
train sac {CARTPOLE} --envs 9999999999                  | give a smaller --replay or fewer --seeds
train sac {CARTPOLE} --first-seed 999999 --seeds 2      | first-seed is 999999; seeds must lie from 0 to 999,999
train sac {CARTPOLE} --device cuda:                     | device 'cuda:' is unknown
train sac {CARTPOLE} --device mps                       | device 'mps' is unknown
train sac {CARTPOLE} --no-compile                       | option --no-compile is unknown; did you mean --compile?
train sac {CARTPOLE} --backend Gymnasium                | --backend is 'Gymnasium'; choose from 'gymnasium', 'async', 'envpool', 'warp'
train sac {CARTPOLE} --preset Paper                     | preset 'Paper' is unknown to sac; choose from
train sac {CARTPOLE} --preset _                         | preset '' is unknown to sac; choose from paper, modern
train sac {CARTPOLE} --horizon 5                        | option --horizon is unknown
compare {CARTPOLE} --agents :sac                        | agent ':sac' cannot be imported: Empty module name
compare {CARTPOLE} --agents sac::lr=1                   | setting '' is not FIELD=VALUE
compare {CARTPOLE} --agents sac:env=Hopper-v5           | setting 'env=Hopper-v5' is not FIELD=VALUE
compare {CARTPOLE} --agents sac:batch=1,5               | --batch is '1,5'; it must be a whole number
compare {CARTPOLE} --agents sac/../x                    | agent 'sac/../x' is unknown
compare {CARTPOLE} --agents own:Agent                   | agent 'own:Agent' cannot be imported: No module named 'own'
compare {CARTPOLE} --threshold -inf                     | threshold is -inf; it must be a finite number
compare {CARTPOLE} --first-seed 999998                  | first-seed is 999998; seeds must lie from 0 to 999,999
compare sac {CARTPOLE}                                  | argument 'sac' is not understood
compare {CARTPOLE} --seeds 99999999999999999999         | seeds must lie from 0 to 999,999
bnn --data . --sets boston boston                       | set 'boston' is named twice
bnn --data . --methods :svgd                            | method '' is unknown
bnn --data . --methods svgd:lr                          | setting 'lr' is not FIELD=VALUE
bnn --data . --sets boston,wine                         | set 'boston,wine' is unknown
bnn --data . --iterations 1e3                           | --iterations is '1e3'; it must be a whole number
bnn --dat .                                             | option --dat is unknown; did you mean --data?
bnn --data . --tuned                                    | --tuned needs a value
bnn-data fetch more --data a                            | argument 'more' is not understood
bnn-data --help-me                                      | bnn-data needs a word first
bnn-data fetch --data a --sets boston boston            | set 'boston' is named twice
bnn-data fetch --data a --sets _                        | set '' is unknown
study --version                                         | study '--version' is unknown
study Natural                                           | (did you mean 'natural'?)
study bnn --data                                        | --data needs a value
study bnn_data --data a --sets mnist                    | set 'mnist' is unknown
study bnn_spread --repeats x                            | --repeats is 'x'; it must be a whole number
study figure1 --alphas 1;2                              | --alphas: '1;2' in '1;2' is not a number
study figure1 --device gpu                              | device 'gpu' is unknown
study fokker_planck --particles x                       | --particles is 'x'; it must be a whole number
study fokker_planck --particles 99999999999999999999    | it must be from 2 to 10,000
study multigoal --device gpu                            | device 'gpu' is unknown
study natural more                                      | argument 'more' is not understood
study natural --updates 1e3                             | --updates is '1e3'; it must be a whole number
study wpo_mixture --lr inf                              | lr is inf; it must be above 0
study wpo_mixture --seeds 99999999999999999999          | it must be from 1 to 999,999
"""
TABLE = [[part.strip() for part in line.rsplit("|", 1)] for line in LINES.strip().splitlines()]


def words(line):
    """The arguments of a command line."""
    named = {"_": "", "LONG": LONG}
    return [named.get(word, word.replace("MANY", ",".join(["1234"] * 60))) for word in line.split()]


@pytest.fixture
def said(person, monkeypatch):
    """``said(line)``: the exit code, stdout and stderr of a command line or, after the word study, of a study."""
    monkeypatch.delenv("WGF_DATA", raising=False)

    def run(line):
        first, *rest = args = words(line)
        (person.folder / "FILE").write_text("")
        return person(*args) if first != "study" else person(*rest, main=study)

    run.folder = person.folder
    return run


@pytest.mark.parametrize(("line", "answer"), TABLE, ids=[line for line, _ in TABLE])
def test_a_mistake_is_one_line_and_leaves_no_file(said, line, answer):
    code, _, err = said(line)
    assert answer in err
    assert re.fullmatch(r"wgf: [^\n]+\n", err)
    assert code == 2
    assert [path.name for path in Path(said.folder).rglob("*")] == ["FILE"]


CODE = """
import sys
import gymnasium as gym

class Leaves(gym.Env):
    def __init__(self): sys.exit("out of fuel")

gym.register("Leaves-v0", entry_point=Leaves)
"""


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        (["sac", "--env", "leaves:Leaves-v0"], "environment 'leaves:Leaves-v0' cannot be made: SystemExit: out of fuel"),
        (["broken:Agent", "--env", "wgf/CartPole-v0"], "agent 'broken:Agent' cannot be imported: SyntaxError: "),
        (["quits:Agent", "--env", "wgf/CartPole-v0"], "agent 'quits:Agent' cannot be imported: SystemExit: 3"),
    ],
)
def test_code_of_ones_own_that_leaves_is_one_line(person, args, answer):
    for name, code in {"leaves": CODE, "broken": "def f(:", "quits": "raise SystemExit(3)"}.items():
        (person.folder / f"{name}.py").write_text(code)
    code, _, err = person("train", *args)
    assert code == 2
    assert answer in err
    assert re.fullmatch(r"wgf: [^\n]+\n", err)
