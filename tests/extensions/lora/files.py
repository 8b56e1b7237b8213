"""Adapter files of every family with random factors, and their changes computed by hand in float64."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
LINEAR = [f"{BLOCK}.{name}" for name in ("attn1.to_q", "attn2.to_k", "attn2.to_out.0", "attn_temp.to_v", "ff.net.2")]
POINTWISE = [
    "down_blocks.1.attentions.0.proj_in",
    "mid_block.attentions.0.proj_out",
    "up_blocks.0.resnets.0.conv_shortcut",
]
CONVOLUTIONS = ["down_blocks.0.resnets.0.conv1", "down_blocks.0.downsamplers.0.conv", "up_blocks.1.resnets.1.conv2"]
TEXT = ["encoder.layers.0.self_attn.q_proj", "encoder.layers.0.self_attn.out_proj", "encoder.layers.0.mlp.fc1"]
OLD_TEXT = {"q_proj": "to_q", "out_proj": "to_out"}


class Maker:
    """Draws factors; remembers each layer's change, by part, in `deltas`."""

    def __init__(self, targets, seed: int = 0):
        self.targets, self.generator = targets, torch.Generator().manual_seed(seed)
        self.deltas: dict[str, dict[str, Tensor]] = {"unet": {}, "text": {}}
        self.tensors: dict[str, Tensor] = {}

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator) * 0.3

    def keep(self, part: str, layer: str, scale: float, product: Tensor) -> None:
        self.deltas[part][layer] = scale * product.reshape(self.targets.shapes(part)[layer])

    def low_rank(self, part: str, layer: str, rank: int, alpha: float | None, flat: bool = False) -> dict[str, Tensor]:
        """`flat`: a 1×1 convolution as if it were linear, as some tools write it."""
        out, *into = self.targets.shapes(part)[layer]
        into = into[:1] if flat else into
        down, up = self.draw(rank, *into), self.draw(out, rank, *(1 for _ in into[1:]))
        product = sum(
            torch.outer(up.flatten(1)[:, r].double(), down.flatten(1)[r].double()) for r in range(rank)
        )  # one rank after the other: not the way the code under test takes
        self.keep(part, layer, 1.0 if alpha is None else alpha / rank, product)
        return {"down": down, "up": up} | ({} if alpha is None else {"alpha": torch.tensor(float(alpha))})

    def tucker(self, layer: str, rank: int, alpha: float) -> dict[str, Tensor]:
        out, into, k, _ = self.targets.unet[layer]
        down, up, mid = self.draw(rank, into, 1, 1), self.draw(out, rank, 1, 1), self.draw(rank, rank, k, k)
        matrices = (
            up.double()[:, :, 0, 0] @ mid.double()[:, :, a, b] @ down.double()[:, :, 0, 0]
            for a in range(k)
            for b in range(k)
        )
        self.keep("unet", layer, alpha / rank, torch.stack(list(matrices), -1))
        return {"down": down, "up": up, "mid": mid, "alpha": torch.tensor(float(alpha))}

    def loha(self, layer: str, rank: int, alpha: float, core: bool = False) -> dict[str, Tensor]:
        out, into, *kernel = self.targets.unet[layer]
        factors, halves = {}, []
        for number in (1, 2):
            if core:
                a, b, t = self.draw(rank, out), self.draw(rank, into), self.draw(rank, rank, *kernel)
                factors |= {f"hada_w{number}_a": a, f"hada_w{number}_b": b, f"hada_t{number}": t}
                matrices = (
                    a.double().T @ t.double()[:, :, x, y] @ b.double()
                    for x in range(kernel[0])
                    for y in range(kernel[1])
                )
                halves.append(torch.stack(list(matrices), -1))
            else:
                inner = into * (kernel[0] * kernel[1] if kernel else 1)
                a, b = self.draw(out, rank), self.draw(rank, inner)
                factors |= {f"hada_w{number}_a": a, f"hada_w{number}_b": b}
                halves.append(a.double() @ b.double())
        self.keep("unet", layer, alpha / rank, halves[0] * halves[1])
        return factors | {"alpha": torch.tensor(float(alpha))}

    def lokr(self, layer: str, rank: int, alpha: float, small: bool, large: str) -> dict[str, Tensor]:
        """small: whether the small factor is a product too. large: `whole`, `product` or `core`."""
        out, into, *kernel = self.targets.unet[layer]
        a, b, c, d = 4, 2, out // 4, into // 2
        factors, size = {"alpha": torch.tensor(float(alpha))}, (c, d, *kernel)
        if small:
            factors |= {"lokr_w1_a": self.draw(a, rank), "lokr_w1_b": self.draw(rank, b)}
            first = factors["lokr_w1_a"].double() @ factors["lokr_w1_b"].double()
        else:
            factors["lokr_w1"] = self.draw(a, b)
            first = factors["lokr_w1"].double()
        if large == "whole":
            factors["lokr_w2"] = self.draw(*size)
            second = factors["lokr_w2"].double()
        elif large == "product":
            inner = d * (kernel[0] * kernel[1] if kernel else 1)
            factors |= {"lokr_w2_a": self.draw(c, rank), "lokr_w2_b": self.draw(rank, inner)}
            second = (factors["lokr_w2_a"].double() @ factors["lokr_w2_b"].double()).reshape(size)
        else:
            factors |= {"lokr_w2_a": self.draw(rank, c), "lokr_w2_b": self.draw(rank, d)}
            factors["lokr_t2"] = self.draw(rank, rank, *kernel)
            wa, wb, t = (factors[f"lokr_{name}"].double() for name in ("w2_a", "w2_b", "t2"))
            second = torch.stack([wa.T @ t[:, :, x, y] @ wb for x in range(kernel[0]) for y in range(kernel[1])], -1)
            second = second.reshape(size)
        product = torch.cat([torch.cat([first[i, j] * second for j in range(b)], 1) for i in range(a)], 0)
        self.keep("unet", layer, 1.0 if not small and large == "whole" else alpha / rank, product)
        return factors

    def add(self, name: str, endings: dict[str, str], factors: dict[str, Tensor]) -> None:
        for role, tensor in factors.items():
            self.tensors[name + endings.get(role, f".{role}")] = tensor

    def write(self, path: Path, metadata: dict[str, str] | None = None, dtype: torch.dtype = torch.float32) -> Path:
        save_file({key: tensor.to(dtype) for key, tensor in self.tensors.items()}, path, metadata)
        return path


KOHYA_ENDINGS = {"down": ".lora_down.weight", "up": ".lora_up.weight", "mid": ".lora_mid.weight"}
DIFFUSERS_ENDINGS = {"down": ".lora.down.weight", "up": ".lora.up.weight"}
DIFFUSERS_TEXT = {"down": ".lora_linear_layer.down.weight", "up": ".lora_linear_layer.up.weight"}
OLD_ENDINGS = {"down": "_lora.down.weight", "up": "_lora.up.weight"}
PEFT_ENDINGS = {"down": ".lora_A.weight", "up": ".lora_B.weight"}


def kohya(layer: str) -> str:
    start = "lora_te_text_model_" if layer in TEXT else "lora_unet_"
    return start + layer.replace(".", "_")


def kohya_file(maker: Maker, path: Path, **written) -> Path:
    """Linear layers and 1×1 convolutions of both parts; no two layers with the same rank and alpha."""
    for number, layer in enumerate([*LINEAR, *POINTWISE, *TEXT]):
        part = "text" if layer in TEXT else "unet"
        maker.add(kohya(layer), KOHYA_ENDINGS, maker.low_rank(part, layer, 2 + number % 5, 0.5 + number))
    return maker.write(path, **written)


def without_alpha(maker: Maker, path: Path) -> Path:
    for layer in [*LINEAR, *POINTWISE]:
        maker.add(kohya(layer), KOHYA_ENDINGS, maker.low_rank("unet", layer, 3, None, flat=layer in POINTWISE))
    return maker.write(path)


def locon(maker: Maker, path: Path) -> Path:
    for number, layer in enumerate([*CONVOLUTIONS, *LINEAR[:2], *POINTWISE[:1]]):
        maker.add(kohya(layer), KOHYA_ENDINGS, maker.low_rank("unet", layer, 2 + number, 1 + 0.5 * number))
    return maker.write(path)


def tucker(maker: Maker, path: Path) -> Path:
    for layer in CONVOLUTIONS:
        maker.add(kohya(layer), KOHYA_ENDINGS, maker.tucker(layer, 3, 1.5))
    return maker.write(path)


def diffusers_new(maker: Maker, path: Path) -> Path:
    for layer in [*LINEAR, *CONVOLUTIONS[:1]]:
        maker.add(f"unet.{layer}", DIFFUSERS_ENDINGS, maker.low_rank("unet", layer, 4, None))
    for layer in TEXT:
        maker.add(f"text_encoder.text_model.{layer}", DIFFUSERS_TEXT, maker.low_rank("text", layer, 4, None))
    return maker.write(path)


def diffusers_with_config(maker: Maker, path: Path) -> Path:
    """As its pipelines write today: peft's endings, the alphas in the header, for each part its own."""
    pattern = {LINEAR[0]: 1.0, "^" + LINEAR[1]: 3.0}
    for layer in LINEAR:
        alpha = 1.0 if layer == LINEAR[0] else 3.0 if layer == LINEAR[1] else 2.0
        factors = maker.low_rank("unet", layer, 4, alpha)
        maker.add(f"unet.{layer}", PEFT_ENDINGS, {role: factors[role] for role in ("down", "up")})
    for layer in TEXT:
        factors = maker.low_rank("text", layer, 4, 6.0)
        maker.add(f"text_encoder.text_model.{layer}", PEFT_ENDINGS, {role: factors[role] for role in ("down", "up")})
    config = {"unet.lora_alpha": 2, "unet.r": 4, "unet.alpha_pattern": pattern, "text_encoder.lora_alpha": 6}
    return maker.write(path, {"lora_adapter_metadata": json.dumps(config)})


def diffusers_old(maker: Maker, path: Path) -> Path:
    for layer in (f"{BLOCK}.{attention}.{name}" for attention in ("attn1", "attn2") for name in ("to_q", "to_out.0")):
        above, _, name = layer.removesuffix(".0").rpartition(".")
        maker.add(f"unet.{above}.processor.{name}", OLD_ENDINGS, maker.low_rank("unet", layer, 4, None))
    for layer in TEXT[:2]:
        above, _, name = layer.rpartition(".")
        name = f"text_encoder.text_model.{above}.{OLD_TEXT[name]}"
        maker.add(name, OLD_ENDINGS, maker.low_rank("text", layer, 4, None))
    return maker.write(path)


def peft(maker: Maker, path: Path) -> Path:
    """One adapter a folder, its configuration beside it; rank-stabilised: alpha / √rank."""
    for layer in [*LINEAR, *CONVOLUTIONS]:
        factors = maker.low_rank("unet", layer, 4, 2 * 4**0.5)
        maker.add(f"base_model.model.{layer}", PEFT_ENDINGS, {role: factors[role] for role in ("down", "up")})
    (path.parent / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 2, "use_rslora": True}))
    return maker.write(path)


def loha(maker: Maker, path: Path) -> Path:
    for layer in [*LINEAR, *POINTWISE, *CONVOLUTIONS[:2]]:
        maker.add(kohya(layer), {}, maker.loha(layer, 3, 2.0))
    maker.add(kohya(CONVOLUTIONS[2]), {}, maker.loha(CONVOLUTIONS[2], 3, 0.5, core=True))
    return maker.write(path)


def lokr(maker: Maker, path: Path) -> Path:
    ways = [(False, "whole"), (False, "product"), (True, "product"), (True, "whole")]
    for layer, (small, large) in zip([*LINEAR[:2], *CONVOLUTIONS[:2]], ways, strict=True):
        maker.add(kohya(layer), {}, maker.lokr(layer, 2, 3.0, small, large))
    maker.add(kohya(CONVOLUTIONS[2]), {}, maker.lokr(CONVOLUTIONS[2], 2, 3.0, False, "core"))
    maker.add(kohya(LINEAR[2]), KOHYA_ENDINGS, maker.low_rank("unet", LINEAR[2], 2, 1.0))  # LyCORIS mixes its kinds
    return maker.write(path)


FAMILIES = {
    "kohya": kohya_file,
    "kohya without alpha": without_alpha,
    "kohya LoCon": locon,
    "kohya Tucker": tucker,
    "diffusers": diffusers_new,
    "diffusers with configuration": diffusers_with_config,
    "diffusers (old)": diffusers_old,
    "peft": peft,
    "LyCORIS LoHa": loha,
    "LyCORIS LoKr": lokr,
}
