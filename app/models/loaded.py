"""The model that is loaded: one at a time, since memory is for frames. Knows how to load it and what came of that."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import typing
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.config import StudioConfig
from extensions.lora.adapter import Adapter
from lavie.errors import LavieError

if typing.TYPE_CHECKING:
    from extensions.lora.files.read import AdapterDeltas
    from lavie.cascade import Cascade

LOADING, READY = "loading", "ready"  # states of a model; any other text says what is wrong with it
_IMPORTING = threading.Lock()


class AnyCascade(typing.Protocol):
    """A `Cascade`, or one whose networks run in another process."""

    def provenance(self) -> dict[str, Any]: ...


C = typing.TypeVar("C", bound=AnyCascade)
Load = Callable[[StudioConfig], "Cascade"]
ReadDeltas = Callable[[Adapter], "AdapterDeltas"]


def import_networks() -> None:
    """Import torch and its companions: two threads that import them at the same time would get incomplete modules."""
    with _IMPORTING:
        import lavie.cascade  # noqa: F401


def load_cascade(config: StudioConfig) -> Cascade:
    """The model that the settings name, on their device. Imports torch. Raises BundleError, DeviceError."""
    import_networks()
    from lavie.cascade import Cascade

    return Cascade.from_bundle(config.bundle, device=config.device)


def adapt_cascade(cascade: Cascade, adapters: Sequence[Adapter], read: ReadDeltas) -> Cascade:
    """The cascade with adapters attached to its networks."""
    from extensions.lora.cascade import AdaptedCascade

    return AdaptedCascade(cascade, adapters, read)


@dataclass(frozen=True)
class Model(typing.Generic[C]):
    """A loaded model. adapt: attaches adapters to the cascade.

    provenance: what the cascade reported when it was loaded; asking again would read all weights again.
    """

    name: str
    cascade: C
    provenance: dict[str, Any]
    adapt: Callable[[C, Sequence[Adapter], ReadDeltas], C]

    def with_adapters(self, adapters: Sequence[Adapter], read: ReadDeltas) -> Model[C]:
        """The same model with adapters attached. Their files are read when they are needed."""
        provenance = {**self.provenance, "adapters": [asdict(adapter) for adapter in adapters]}
        return replace(self, cascade=self.adapt(self.cascade, adapters, read), provenance=provenance)

    @property
    def prepare(self) -> Callable[[str], None]:
        """Called before each prompt of a long video: sets the adapter weights that the prompt asks for."""
        from extensions.long_video.strategies.window_model import no_preparation
        from extensions.lora.cascade import AdaptedCascade

        return self.cascade.set_weights_for if isinstance(self.cascade, AdaptedCascade) else no_preparation


class Models(typing.Generic[C]):
    """Gives the model of a name. `get` and `load_ahead` belong to one thread, the rest to all."""

    def __init__(
        self,
        config: StudioConfig,
        load: Callable[[StudioConfig], C],
        adapt: Callable[[C, Sequence[Adapter], ReadDeltas], C],
    ):
        """load: gives the cascade for the settings; called again after a failure. adapt: see `Model`."""
        self._config, self._load, self._adapt = config, load, adapt
        self._loaded: Model[C] | None = None
        self._wanted: str | None = None
        self.state = READY  # as long as nobody waits for one

    @property
    def loaded(self) -> Model[C] | None:
        """The loaded model, for questions that run no network."""
        return self._loaded

    @property
    def cascade(self) -> C | None:
        """The loaded cascade, for questions that run no network."""
        loaded = self._loaded
        return loaded.cascade if loaded else None

    def want(self, name: str) -> None:
        """Have a model loaded at the next `load_ahead`."""
        self._wanted, self.state = name, LOADING

    def load_ahead(self) -> None:
        """Load the wanted model. A failure is reported by `state`, and by each job that asks for the model."""
        name, self._wanted = self._wanted, None
        if name is not None:
            with contextlib.suppress(LavieError):
                self.get(name)

    def get(self, name: str) -> Model[C]:
        """The model, loaded if it is not. Raises what loading it raises."""
        if self._loaded is None or self._loaded.name != name:
            self._loaded, self.state = None, LOADING  # before the next is loaded: memory is for one
            try:
                cascade = self._load(replace(self._config, model=name))
                self._loaded = Model(name, cascade, cascade.provenance(), self._adapt)
            except Exception as error:
                self.state = str(error) or type(error).__name__
                raise
        self.state = READY
        return self._loaded

    def release(self) -> str | None:
        """Free the memory of the loaded model until it is asked for again; its name."""
        name, self._loaded = (self._loaded.name if self._loaded else None), None
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            gc.collect()  # networks and their hooks hold each other
            torch.cuda.empty_cache()
        return name
