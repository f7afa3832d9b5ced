"""Agents: one file, one algorithm."""
