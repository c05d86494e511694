"""Figures: plain functions that return a `Drawing`, one module a notebook, and the look they share in `style`."""
