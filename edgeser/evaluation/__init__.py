"""Measures of what a distilled set is worth: conditions, scores, intervals, convergence, and other corpora."""
