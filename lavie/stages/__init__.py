"""The stages of the cascade, tensors in and tensors out: generators that yield `Step` events and return latents."""
