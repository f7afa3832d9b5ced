"""What a person runs: the command line, the trainer with its reports, and the studies."""
