"""An encoder written again from the published formulas: float64, one sequence, one head and one angle at a time."""

import math

import torch
from torch import Tensor

from maskseq.model.config import EncoderConfig


def reference(config: EncoderConfig, p: dict[str, Tensor], ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Hidden states and logits of one sequence; `p` are the parameters in float64."""
    length, head = len(ids), config.hidden_size // config.n_heads

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", torch.zeros(()))

    def norm(x: Tensor, name: str) -> Tensor:
        if f"{name}.weight" not in p:
            return x
        if config.norm == "rmsnorm":
            return x / (x.square().mean(-1, keepdim=True) + config.norm_eps).sqrt() * p[f"{name}.weight"]
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + config.norm_eps).sqrt()
        return scaled * p[f"{name}.weight"] + p.get(f"{name}.bias", torch.zeros(()))

    def gelu(x: Tensor) -> Tensor:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def turned(x: Tensor, theta: float) -> Tensor:
        """Rotate pairs of dimensions one at a time: `x` is one head, [length, head]."""
        x, n = x.clone(), int(head * config.rope_fraction)
        for position in range(length):
            for pair in range(n // 2):
                i, j = (2 * pair, 2 * pair + 1) if config.rope_style == "interleaved" else (pair, pair + n // 2)
                angle = position / theta ** (2 * pair / n)
                a, b = x[position, i].clone(), x[position, j].clone()
                x[position, i] = a * math.cos(angle) - b * math.sin(angle)
                x[position, j] = a * math.sin(angle) + b * math.cos(angle)
        return x

    def attention(x: Tensor, layer: int) -> Tensor:
        local = layer % config.global_every != 0
        theta = config.rope_theta_local if local else config.rope_theta
        far = (torch.arange(length)[:, None] - torch.arange(length)).abs() > (config.window if local else length)
        qkv = linear(x, f"layers.{layer}.attn.Wqkv")
        mixed = []
        for h in range(config.n_heads):
            q, k, v = (qkv[:, (part * config.n_heads + h) * head :][:, :head] for part in range(3))
            if config.positions == "rope":
                q, k = turned(q, theta), turned(k, theta)
            mixed.append((q @ k.T / math.sqrt(head)).masked_fill(far, -math.inf).softmax(-1) @ v)
        return linear(torch.cat(mixed, -1), f"layers.{layer}.attn.Wo")

    def mlp(x: Tensor, layer: int) -> Tensor:
        wide = linear(x, f"layers.{layer}.mlp.Wi")
        a, b = wide[:, : config.intermediate_size], wide[:, config.intermediate_size :]
        inner = {"gelu": lambda: gelu(a), "geglu": lambda: gelu(a) * b, "swiglu": lambda: a * a.sigmoid() * b}
        return linear(inner[config.mlp](), f"layers.{layer}.mlp.Wo")

    table, offsets = p["embeddings.tok_embeddings.weight"], config.vocabulary.offsets.tolist()
    x = sum(table[ids[:, f] + offset] for f, offset in enumerate(offsets))
    x = x + (p["embeddings.token_types.weight"][0] if config.token_types else 0)
    for number, period in enumerate(config.phase_embeddings.periods):
        for i in range(length):
            x[i] += p[f"embeddings.periods.{number}.weight"][i % period]
    for number, (left, right) in enumerate(config.ngram_embeddings.contexts):
        table_of_pair, first = p[f"embeddings.neighbours.{number}.weight"], 0
        for f, n in enumerate(config.vocabulary.n_rows):
            mask = config.vocabulary.mask_ids[f]
            for i in range(length):
                around = [j for j in range(i - left, i + right + 1) if j != i]
                digits = [int(ids[j, f]) if 0 <= j < length else mask for j in around]
                number_of_row = sum(digit * n**power for power, digit in enumerate(reversed(digits)))
                x[i] += table_of_pair[first + number_of_row]
            first += n ** (left + right)
    if config.positions == "learned":
        x = x + p["embeddings.positions.weight"][:length]
    if config.positions == "sinusoidal":
        x = x * math.sqrt(config.hidden_size)
        for position in range(length):
            for i in range(config.hidden_size):
                angle = position / 10_000 ** (2 * (i // 2) / config.hidden_size)
                x[position, i] += math.cos(angle) if i % 2 else math.sin(angle)
    x = norm(x, "embeddings.norm")
    for i in range(config.n_layers):
        names = f"layers.{i}.attn_norm", f"layers.{i}.mlp_norm"
        if config.placement == "pre":
            x = x + attention(norm(x, names[0]), i)
            x = x + mlp(norm(x, names[1]), i)
        else:
            x = norm(x + attention(x, i), names[0])
            x = norm(x + mlp(x, i), names[1])
    x = norm(x, "final_norm")

    last = x
    if config.head != "none":
        dense = linear(x, "head.dense")
        last = norm(dense * dense.sigmoid() if config.head == "silu" else gelu(dense), "head.norm")
    logits, first = [], 0
    for offset, n in zip(offsets, config.vocabulary.n_outputs, strict=True):
        rows = table[offset : offset + n] if config.tied else p["decoder.weight"][first : first + n]
        bias = p["decoder.bias"][first : first + n] if config.decoder_bias else 0
        logits.append(last @ rows.T + bias)
        first += n
    return x, logits
