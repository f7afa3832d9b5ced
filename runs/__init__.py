"""What a person runs: the command line, the comparison and one short recipe a figure."""
