"""Policies and critics: nn.Modules that take observations and noise."""
