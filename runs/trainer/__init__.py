"""The trainer and its reports: it trains from names and numbers, compares agents, and writes tables and figures."""
