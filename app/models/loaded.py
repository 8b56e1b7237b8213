"""The model that a worker works with: loaded when first needed, one at a time, since memory is for frames.

Knows how to load and what came of it; runs nothing.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from app.clip import load_cascade
from app.config import StudioConfig
from app.worker.executors.remote import Remote
from extensions.lora.adapter import Adapter
from lavie.errors import LavieError

if typing.TYPE_CHECKING:
    from app.adapters import Adapters
    from extensions.lora.files.read import AdapterDeltas
    from lavie.cascade import Cascade

LOADING, READY = "loading", "ready"  # states of a model; any other text says what is wrong with it


@dataclass(frozen=True)
class Model:
    """A loaded model. provenance: what the cascade said of itself then; asking again reads all weights again."""

    name: str
    cascade: Cascade
    provenance: dict

    def wearing(self, adapters: Sequence[Adapter], library: Adapters) -> Model:
        """The same with adapters on its networks; itself where there are none. Raises AdapterError for one that is
        not there; files are read when they are needed."""
        if not adapters:
            return self
        library.check(adapters)
        cascade = self._dressed(adapters, lambda adapter: library.read(adapter, self.cascade.bundle.folder))
        return Model(self.name, cascade, {**self.provenance, "adapters": [asdict(adapter) for adapter in adapters]})

    def _dressed(self, adapters: Sequence[Adapter], read: Callable[[Adapter], AdapterDeltas]) -> Cascade:
        if isinstance(self.cascade, Remote):
            return self.cascade.wearing(adapters, read)
        from extensions.lora.cascade import AdaptedCascade

        return AdaptedCascade(self.cascade, adapters, read)

    @property
    def prepare(self) -> Callable[[str], None]:
        """What a long video's network is told before each prompt."""
        from extensions.long_video.strategies.window_model import no_preparation
        from extensions.lora.cascade import AdaptedCascade

        return self.cascade.wear_for if isinstance(self.cascade, AdaptedCascade) else no_preparation


class Models:
    """Gives the model of a name. `get` and `load_ahead` belong to one thread, the rest to all.

    load: gives the cascade for the settings; called again after it failed.
    """

    def __init__(self, config: StudioConfig, load: Callable[[StudioConfig], Cascade] = load_cascade):
        self._config, self._load = config, load
        self._loaded: Model | None = None
        self._wanted: str | None = None
        self.state = READY  # as long as nobody waits for one

    @property
    def loaded(self) -> Model | None:
        """The one that is loaded, for questions that run no network."""
        return self._loaded

    @property
    def cascade(self) -> Cascade | None:
        """The one that is loaded, for questions that run no network."""
        loaded = self._loaded
        return loaded.cascade if loaded else None

    def want(self, name: str) -> None:
        """Have a model loaded at the next `load_ahead`."""
        self._wanted, self.state = name, LOADING

    def load_ahead(self) -> None:
        """Load what is wanted. What is wrong with it is told by `state`, and by each job that asks for it."""
        name, self._wanted = self._wanted, None
        if name is not None:
            with contextlib.suppress(LavieError):
                self.get(name)

    def get(self, name: str) -> Model:
        """The model, loaded if it is not. Raises what loading it raises."""
        if self._loaded is None or self._loaded.name != name:
            self._loaded, self.state = None, LOADING  # before the next is loaded: memory is for one
            try:
                cascade = self._load(replace(self._config, model=name))
                self._loaded = Model(name, cascade, cascade.provenance())
            except Exception as error:
                self.state = str(error) or type(error).__name__
                raise
        self.state = READY
        return self._loaded

    def release(self) -> str | None:
        """Leave its memory to others, until it is asked for again; the name of the one that was loaded."""
        name, self._loaded = (self._loaded.name if self._loaded else None), None
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            gc.collect()  # networks and their hooks hold each other
            torch.cuda.empty_cache()
        return name
