"""Trains adapters: a subject or a style from pictures, a motion from clips.

`settings` has values and presets, `pictures` and `media` read the media, `factors` is what is trained, `ordinary` what
must not change, `losses` the losses, `memory` the estimate of memory, `session` a whole run.
"""
