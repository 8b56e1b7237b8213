"""Videos of any length from a network that makes a few frames at a time, without seams or drift.

`plan`, `join_plan` and `script` are values and need no torch. `resolve` fills in open values, `pipeline` runs all
stages, `strategies` makes the base frames, `metrics` measures seams and drift.
"""
