"""The stages of the cascade, tensors in and tensors out. Each is a generator that yields `Step` events and returns latents."""
