"""The command line: what parses, lists and shows."""
