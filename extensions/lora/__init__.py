"""LoRA adapters and textual inversions: read, attached to networks beside their weights, baked, trained and written.

`adapter` and `tags` are values, `files` reads and writes files, `deltas` and `hooks` change layers, `cascade` renders
with adapters, `training` makes new ones.
"""
