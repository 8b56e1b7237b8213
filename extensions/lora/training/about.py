"""What a finished file tells of its training, under the names that other tools look for.

Sources: kohya-ss/sd-scripts (`ss_…`), Stability-AI/ModelSpec 1.0.1 (`modelspec.…`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from extensions.lora.training.presets import Preset
from extensions.lora.training.settings import Settings
from lavie.bundle import Bundle
from lavie.events import BASE
from lavie.sampling import VELOCITY


def metadata(settings: Settings, preset: Preset, bundle: Bundle, captions: Sequence[str], steps: int) -> dict:
    """As `export.save_kohya` takes it. steps: that are done. No time of day: a run says the same again."""
    name = re.sub(r"\W+", "_", bundle.name.lower()).strip("_")
    prediction = bundle.defaults[BASE].prediction_type
    counts = Counter(captions)
    return {
        "ss_base_model_version": f"lavie_{name}",
        "ss_sd_model_name": bundle.name,
        "ss_num_train_images": len(captions),
        "ss_num_reg_images": 0,
        "ss_max_train_steps": preset.steps(len(captions)) if settings.steps is None else settings.steps,
        "ss_steps": steps,
        "ss_batch_size_per_device": preset.batch,
        "ss_unet_lr": preset.learning_rate,
        "ss_optimizer": "Muon and AdamW",
        "ss_lr_scheduler": "cosine",
        "ss_caption_dropout_rate": preset.caption_dropout,
        "ss_min_snr_gamma": preset.snr,
        "ss_prior_loss_weight": preset.prior,
        "ss_gradient_checkpointing": settings.gradient_checkpointing,
        "ss_seed": settings.seed,
        "ss_resolution": f"({bundle.width}, {bundle.height})",
        "ss_tag_frequency": {preset.name: dict(counts)},
        "ss_training_comment": f"preset {preset.name}, by LaVie Studio",
        "modelspec.architecture": f"lavie-{name}/lora",
        "modelspec.implementation": "LaVie Studio",
        "modelspec.trigger_phrase": settings.trigger,
        "modelspec.prediction_type": "v" if prediction == VELOCITY else prediction,
        "modelspec.resolution": f"{bundle.width}x{bundle.height}",
        "modelspec.usage_hint": f"write “{settings.trigger}” where the {preset.name} shall be",
    }
