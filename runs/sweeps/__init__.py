"""Sweeps: agents x settings x environments x seeds of a file, as ordinary run folders; engines only start ``wgf train`` for each."""
