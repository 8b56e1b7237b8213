"""The stages of the cascade: generators that yield `Step` events and return latents."""
