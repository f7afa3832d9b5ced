"""What all agents share: environments, memory, loop, evaluation, checkpoints, logs."""
