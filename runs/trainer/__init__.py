"""The trainer and its reports: trains from names and numbers, compares, and writes tables and figures."""
