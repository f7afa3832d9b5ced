"""Tasks of the project's own, registered with Gymnasium: wgf/CartPole-v0, wgf/CartPoleSwingUp-v0, wgf/DoublePendulum-v0,
wgf/MultiGoal-v0 and wgf/PointWall-v0. A new one is a file with a ``Task`` (``wgf.agents.tasks.task``) and its name in TASKS below.

    import wgf.agents.tasks, gymnasium
    env = gymnasium.make("wgf/CartPoleSwingUp-v0", render_mode="rgb_array")

``wgf.agents.tasks.fleet.Fleet`` steps thousands of them at once. wgf/PointWallMuJoCo-v0 is the point before a wall as MuJoCo computes it,
and wgf/AntWall-v0 Gymnasium's Ant before one.
With the extra dm-control there are also wgf/HumanoidStand-v0, 3 and 5 humanoids at once as wgf/HumanoidStand3-v0 and
wgf/HumanoidStand5-v0, and the Control Suite (``wgf.agents.tasks.suite``); with the extra tokamak wgf/IterHybrid-v0.
"""

import gymnasium

from wgf.agents.tasks import multigoal, pendula, point_wall
from wgf.agents.tasks.task import Task

__all__ = ["EXTRAS", "IDS", "OWNERS", "TASKS"]

TASKS: dict[str, Task] = pendula.TASKS | multigoal.TASKS | point_wall.TASKS
IDS = {f"wgf/{name}-v0": name for name in TASKS}
OWNERS = {"dm_control": "wgf.agents.tasks.suite"}  # namespaces of tasks that a module registers when it is imported
EXTRAS = {"dm_control": "dm-control", "gymtorax": "tokamak"}  # packages that only some tasks need, and the extra that brings each

for _id, _name in IDS.items():
    gymnasium.register(_id, "wgf.agents.tasks.single:Single", max_episode_steps=TASKS[_name].horizon, kwargs={"name": _name})
for _id, _n in (("wgf/HumanoidStand-v0", 1), ("wgf/HumanoidStand3-v0", 3), ("wgf/HumanoidStand5-v0", 5)):
    gymnasium.register(_id, "wgf.agents.tasks.replicas:HumanoidStand", kwargs={"replicas": _n})
gymnasium.register("wgf/PointWallMuJoCo-v0", "wgf.agents.tasks.point_wall_mujoco:PointWallMuJoCo", max_episode_steps=50)
gymnasium.register("wgf/AntWall-v0", "wgf.agents.tasks.ant_wall:AntWall", max_episode_steps=400)
gymnasium.register("wgf/IterHybrid-v0", "wgf.agents.tasks.tokamak:IterHybrid")
