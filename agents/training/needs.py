"""What a training will take, before it takes anything: memory, and room on a disk."""

from dataclasses import replace

from wgf.agents.training.description import Description
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.weight import shapes, weight

__all__ = ["LEAST", "disk", "memory"]

LEAST = 2**17  # bytes of a seed's small files: config.json, its copy in TensorBoard's file, states of random generators
SCALAR, EPISODE = 110, 20  # bytes of a number in metrics.csv and in TensorBoard's file; steps of an episode, at least, in most tasks
LOOK, EVALUATION, ENDED = 12, 4, 2  # numbers that are logged at a look, at an evaluation, and for an episode
STATES, POLICIES = 3, 3  # files of checkpoints, and of a seed's policies, the last and the best, that there are while the next is written


def memory(agent: Description, schedule: Schedule) -> float:
    """Returns the bytes that replay or segment, networks and one update take on the agent's device; inf where they cannot be counted."""
    held = agent.module.memory(agent.cfg, schedule).needs(len(agent.seeds), agent.obs_size, agent.action_size)
    return held.bytes + len(agent.seeds) * weight(agent.module, agent.cfg, agent.obs_size, agent.action_size)


def disk(agent: Description, schedule: Schedule) -> int:
    """Returns the bytes that the folder of a training takes at most, about: checkpoints with the replay, policies and logs.

    A piece of the replay stays until each of its rows has been overwritten, which takes the replay and two pieces.

    **Limits** Of the logs it is right where episodes have ``EPISODE`` steps or more; an agent of somebody's own has the networks that it
    can make without numbers.
    """
    piece = min(schedule.steps, schedule.checkpoint_every or schedule.eval_every)
    held = agent.module.memory(agent.cfg, replace(schedule, replay=schedule.replay + 2 * piece))
    replay = held.needs(len(agent.seeds), agent.obs_size, agent.action_size).saved
    state = sum(t.nbytes for t in shapes(agent.module, agent.cfg, agent.obs_size, agent.action_size).values())
    looks, evaluations = schedule.steps / schedule.log_every, schedule.steps / schedule.eval_every
    numbers = LOOK * looks + EVALUATION * evaluations + ENDED * schedule.steps / EPISODE
    return replay + len(agent.seeds) * (LEAST + (STATES + POLICIES) * state + int(SCALAR * numbers))
