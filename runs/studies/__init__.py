"""Studies: one short recipe per figure or table of a paper."""
