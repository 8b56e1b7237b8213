"""Videos of any length from a network that makes a few frames: segment by segment, without seams or drift.

Read on in this order: `plan`, `extend`, `conditioned`, `corrected`, `codenoise`, `statistics`, `meters`. `plan` and
`script` are values and need no torch.
"""
