"""Videos of any length from a network that makes a few frames: segment by segment, without seams or drift.

Read on in this order: `plan`, `resolving`, `extend`, `conditioned`, `corrected`, `codenoise`, `statistics`, `meters`;
then `reel` and `bridge` for clips that are joined, and `film`, which takes either through all stages. `plan`, `reel`
and `script` are values and need no torch.
"""
