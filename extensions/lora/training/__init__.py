"""Adapters that are trained here: a subject or a style from pictures, a motion from clips.

Read on in this order: `presets` and `settings` (values), `archives`, `pictures`, `sources` (media of all kinds →
items), `factors`, `trigger` (what is trained), `samples`, `ordinary` (what must stay as it is), `losses`, `media`,
`memory`, `about`, `session`. The values and `archives` need no torch.
"""
