"""Adapters: community LoRA files understood, put on the networks beside their weights, taken off, baked, written.

Read on in this order: `adapter` and `tags` (values and prompts), `card`, `inspection` and `keep` (a file let in),
`header`, `formats`, `names`, `changes`, `read` (how it is read), `apply`, `embeddings`, `bake`, `export`. All but
`inspection`, `keep`, `changes` and those behind it need no torch. `training` makes adapters from media.
"""
