"""Encoders from and to other projects: Hugging Face folders both ways, ONNX out."""

import re
import warnings
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from maskseq.errors import DataError, UsageError, first_problem
from maskseq.interop.hf_tokenizer import HFTokens, read_tokens, write_tokenizer
from maskseq.interop.layouts import PublishedLayout
from maskseq.interop.published import LAYOUTS
from maskseq.model.checkpoint import few, fill, read_json, read_tensors, write_json, write_tensors
from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.model.layer import Attend
from maskseq.model.rotary import Rotation, rotate
from maskseq.plugins import tokenizer_from_json, tokenizer_to_json
from maskseq.storage.folder import inside
from maskseq.storage.standard_json import to_json
from maskseq.tokenizer import Tokenizer
from maskseq.types import Vocabulary

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
OWN_TOKENIZER = "maskseq_tokenizer.json"
UNKNOWNS, MOST_ABSENT = ("<unk>", "[UNK]"), 0.1
"""What stands in for tokens that a published vocabulary lacks, and which share of ours may be so."""
NEVER = -100.0
"""Bias of the rows that a Hugging Face head has and ours has not."""


def import_hf(
    folder: Path, *, tokenizer: Tokenizer[Any] | None = None, mask_id: int | None = None, trust_code: bool = False
) -> tuple[Encoder, Tokenizer[Any] | None]:
    """The encoder in a Hugging Face folder, and its maskseq tokenizer if `export_hf` wrote one there.

    A foreign vocabulary keeps its rows and their order. Which id is `[MASK]`, and which others are special and so never
    predicted, the folder's tokenizer says; where there is none, give `mask_id`. With a `tokenizer` of ours, the rows of
    its tokens are picked out by their text instead, and the encoder is a native one for it.
    """
    saved = read_json(folder / CONFIG)
    layout = LAYOUTS.get(saved.get("model_type", ""))
    if layout is None:
        raise DataError(
            folder / CONFIG,
            f"model_type {saved.get('model_type')!r} is none of {', '.join(LAYOUTS)}",
            code="not-supported",
        )
    try:
        switches = layout.switches(saved)
        own = TypeAdapter(Vocabulary).validate_python(saved["maskseq"]["vocabulary"]) if "maskseq" in saved else None
        tokens = read_tokens(folder)
        vocabulary = own or _foreign_vocabulary(folder, tokens, saved["vocab_size"], mask_id)
        config = EncoderConfig(vocabulary=vocabulary, **switches)
    except KeyError as error:
        raise DataError(folder / CONFIG, f"lacks the key {error}", code="damaged-file") from None
    except ValidationError as error:
        raise DataError(
            folder / CONFIG, f"its maskseq section is broken ({first_problem(error)[1]})", code="damaged-file"
        ) from None
    except DataError as error:
        raise DataError(folder / CONFIG, error.problem, code=error.code) from None

    tensors = {layout.normal(name): value for name, value in _read_weights(folder).items()}
    n_given = sum(value.numel() for value in tensors.values())
    if config.least_parameters > 2 * n_given:  # before anything of that size is made; what is missing is named below
        raise DataError(
            folder / CONFIG,
            f"needs {config.least_parameters:,} parameters or more, and the weights have {n_given:,}",
            code="damaged-file",
        )
    model = Encoder(config, seed=None)
    if own is not None:
        _drop_rows(layout, tensors, own)
    fill(model, _to_ours(layout, model, tensors, folder / WEIGHTS), folder / WEIGHTS)
    if tokenizer is not None:
        return _picked_out(model, tokens, tokenizer, folder), tokenizer
    if (folder / OWN_TOKENIZER).exists():
        tokenizer = tokenizer_from_json(read_json(folder / OWN_TOKENIZER), trust_code=trust_code)
    return model, tokenizer


def export_hf(model: Encoder, folder: Path, *, tokenizer: Tokenizer[Any] | None = None, model_type: str = "") -> str:
    """Write a folder that transformers loads, and return the name of the class that does.

    `model_type` is `modernbert`, `bert` or `nomic_bert`; empty takes the first that can express the encoder. A native
    encoder gets rows for `[MASK]` and `[PAD]` that are never predicted; with its tokenizer the folder runs under
    transformers' `fill-mask` pipeline. `UsageError` says why an encoder has no such folder; ONNX takes every one.
    """
    model, vocabulary = _without_next_head(model), model.config.vocabulary
    if vocabulary.n_fields > 1:
        raise UsageError(
            f"a Hugging Face encoder reads one id at each position, this one reads {vocabulary.n_fields}: "
            f"{', '.join(vocabulary.names)}\n\nhint: export it to ONNX instead",
            code="not-supported",
        )
    layout = _layout_for(model.config, model_type)
    native = vocabulary.n_outputs[0] < vocabulary.n_rows[0]
    # A native head needs its bias to make the two rows impossible.
    config = layout.with_zeros(replace(model.config, decoder_bias=model.config.decoder_bias or native))
    written = layout.config(config) | {"vocab_size": vocabulary.n_rows[0] + native}
    if native:
        written["pad_token_id"] = vocabulary.n_rows[0]
        written["maskseq"] = {"vocabulary": TypeAdapter(Vocabulary).dump_python(vocabulary, mode="json")}

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, written)
    tensors = _to_theirs(layout, model, config)
    if native:
        _add_rows(layout, tensors)
    write_tensors(folder / WEIGHTS, tensors, metadata={"format": "pt"})
    if tokenizer is not None:
        write_json(folder / OWN_TOKENIZER, tokenizer_to_json(tokenizer))
        write_tokenizer(folder, tokenizer.fields[0], max_length=config.max_positions)
    return layout.architecture


def export_onnx(model: Encoder, path: Path) -> None:
    """Write an ONNX model: input `ids`, int64 `[length, fields]`, one whole sequence of any length; output
    `logits_<field>`, float32 `[length, outputs]`, for each field. Its metadata `maskseq.vocabulary` is the
    vocabulary as JSON. Needs the packages of `maskseq[onnx]`.
    """
    if not all(find_spec(name) for name in ("onnx", "onnxscript")):
        raise UsageError(
            "the ONNX export needs more packages\n\nhint: pip install 'maskseq[onnx]'", code="missing-extra"
        )
    if model.config.frame:
        raise UsageError("ONNX cannot have frame: the graph reads one sequence as it is", code="not-supported")
    for name, prior in model.embeddings.priors.items():
        if prior.no_onnx:
            raise UsageError(f"ONNX cannot have {name}: {prior.no_onnx}", code="not-supported")
    model, vocabulary = _without_next_head(model), model.config.vocabulary
    example = torch.zeros(8, vocabulary.n_fields, dtype=torch.int64, device=next(model.parameters()).device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 warns of what it does itself
        program = torch.onnx.export(
            _OneSequence(model).eval(),
            (example,),
            input_names=["ids"],
            output_names=[f"logits_{name}" for name in vocabulary.names],
            dynamic_shapes={"ids": {0: torch.export.Dim("length", max=model.config.max_positions)}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props["maskseq.vocabulary"] = to_json(
        TypeAdapter(Vocabulary).dump_python(vocabulary, mode="json"), lossless=True
    )
    program.save(path)


def _without_next_head(model: Encoder) -> Encoder:
    """The encoder as formats of others know it: what they ask about are masked tokens."""
    if model.next_head is None:
        return model
    plain = Encoder(replace(model.config, next_head=False), seed=None)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "next_head" not in name})
    return plain.to(next(model.parameters()).device)


class _OneSequence(nn.Module):
    """The encoder and all its heads over one unpacked sequence."""

    def __init__(self, model: Encoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Int[Tensor, "length fields"]) -> tuple[Float[Tensor, "length outputs"], ...]:
        positions = torch.arange(ids.shape[0], device=ids.device)
        attend: Attend = dense_attention
        if not self.model.config.context_sees_target:
            mask_ids = torch.tensor(self.model.config.vocabulary.mask_ids, device=ids.device)
            attend = partial(dense_attention, target=(ids == mask_ids).any(dim=1))
        # There is one piece, so dense attention looks at neither boundaries nor the longest piece.
        states = self.model(ids, positions, positions, 0, attend=attend)
        return tuple(self.model.logits(states, field) for field in range(self.model.config.vocabulary.n_fields))


def dense_attention(
    qkv: Float[Tensor, "length 3 heads dim"],
    rotation: Rotation,
    cu_seqlens: Tensor,
    *,
    max_seqlen: int,
    window: int | None,
    interleaved: bool,
    target: Bool[Tensor, "length"] | None = None,
) -> Float[Tensor, "length heads dim"]:
    """`packed_self_attention`, or with `target` `OneWay`, for one piece, from operations that every format knows."""
    mask = None if target is None else target[:, None] | ~target
    if window is not None:
        position = torch.arange(qkv.shape[0], device=qkv.device)
        mask = (position[:, None] - position).abs() <= window
    qk, v = torch.split(qkv, [2, 1], dim=1)
    if rotation is not None:
        qk = rotate(qk, rotation, interleaved=interleaved)
    q, k, v = (x.transpose(0, 1)[None] for x in (*qk.unbind(1), v.squeeze(1)))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[0].transpose(0, 1)


def _layout_for(config: EncoderConfig, model_type: str) -> PublishedLayout:
    """The layout asked for, or the first that can express the encoder; `UsageError` lists what stands in the way."""
    writable = {name: layout for name, layout in LAYOUTS.items() if layout.write is not None}
    if model_type and model_type not in writable:
        raise UsageError(
            f"cannot export to {model_type!r}\n\nhint: possible are {', '.join(writable)}", code="unknown-name"
        )
    problems = []
    for name in [model_type] if model_type else writable:
        differences = writable[name].differences(writable[name].with_zeros(config))
        if not differences:
            return writable[name]
        problems.append(f"{writable[name].architecture} cannot have {', '.join(differences)}")
    text = "\n".join(problems)
    raise UsageError(
        f"transformers has no class for this encoder:\n{text}\n\nhint: export it to ONNX instead", code="not-supported"
    )


def _to_ours(layout: PublishedLayout, model: Encoder, tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Our parameters, put together from theirs; each of theirs must be used, or known to be superfluous."""
    ours: dict[str, Tensor] = {}
    used: set[str] = set()
    missing: list[str] = []
    for name, parameter in model.state_dict().items():
        parts = layout.theirs(name)
        lacking = [part for part in parts if part not in tensors]
        if not lacking:
            ours[name] = layout.arranged(name, torch.cat([tensors[part] for part in parts]), model.config)
            used |= set(parts)
        elif re.fullmatch(layout.optional, name):
            ours[name] = torch.zeros_like(parameter)
        else:
            missing += lacking
    unknown = [name for name in tensors if name not in used and not re.fullmatch(layout.unneeded, name)]
    if missing or unknown:
        problem = f"lacks {few(missing)}" if missing else f"has {few(unknown)}, for which there is no place"
        raise DataError(
            path, f"is not the {layout.architecture} that its {CONFIG} describes: it {problem}", code="damaged-file"
        )
    return ours


def _to_theirs(layout: PublishedLayout, model: Encoder, config: EncoderConfig) -> dict[str, Tensor]:
    """Their tensors from our parameters, with zeros for those that only `config`, of their layout, has."""
    ours = model.state_dict()
    theirs: dict[str, Tensor] = {}
    for name, wanted in Encoder(config, seed=None).state_dict().items():
        value = ours[name].float() if name in ours else torch.zeros_like(wanted)
        parts = layout.theirs(name)
        theirs |= dict(zip(parts, value.chunk(len(parts)), strict=True))
    return {name: value.cpu().contiguous() for name, value in theirs.items()}


def _add_rows(layout: PublishedLayout, tensors: dict[str, Tensor]) -> None:
    """To what counts in ids: a row for `[PAD]`, and in the head one for `[MASK]` as well, never predicted."""
    for name, n, value in (
        ("embeddings.tok_embeddings.weight", 1, 0.0), ("decoder.weight", 2, 0.0), ("decoder.bias", 2, NEVER),
    ):  # fmt: skip
        [key] = layout.theirs(name)
        if key in tensors:
            extra = torch.full((n, *tensors[key].shape[1:]), value)
            tensors[key] = torch.cat([tensors[key], extra])


def _drop_rows(layout: PublishedLayout, tensors: dict[str, Tensor], vocabulary: Vocabulary) -> None:
    """The inverse of `_add_rows`."""
    rows, outputs = vocabulary.n_rows[0], vocabulary.n_outputs[0]
    for name, n in (
        ("embeddings.tok_embeddings.weight", rows), ("decoder.weight", outputs), ("decoder.bias", outputs),
    ):  # fmt: skip
        [key] = layout.theirs(name)
        if key in tensors:
            tensors[key] = tensors[key][:n]


def _foreign_vocabulary(folder: Path, tokens: HFTokens, n_ids: int, mask_id: int | None) -> Vocabulary:
    """One field with the publisher's rows, of which special ones are never predicted."""
    mask_id = tokens.ids.get(tokens.mask) if mask_id is None else mask_id
    if mask_id is None:
        raise UsageError(
            f"{folder} has no tokenizer that says which id is {tokens.mask}\n\nhint: pass mask_id", code="not-supported"
        )
    special = {tokens.ids[text] for text in tokens.special}
    never = tuple(sorted({mask_id, *(i for i in special if i < n_ids)}))
    return Vocabulary(
        names=("token",), n_rows=(n_ids,), n_outputs=(n_ids,), mask_ids=(mask_id,), unpredictable=(never,)
    )


def _picked_out(model: Encoder, tokens: HFTokens, tokenizer: Tokenizer[Any], folder: Path) -> Encoder:
    """A native encoder for `tokenizer`, from the rows of a foreign one that have the same texts."""
    if len(tokenizer.fields) > 1:
        raise UsageError(
            f"{folder} reads one id at each position, {type(tokenizer).__name__} writes several", code="not-supported"
        )
    texts = [*tokenizer.fields[0].tokens, *tokenizer.fields[0].controls]
    absent = [text for text in texts if text not in tokens.ids]
    stands_in = next((tokens.ids[text] for text in UNKNOWNS if text in tokens.ids), None)
    if absent and (stands_in is None or not model.config.decoder_bias or len(absent) > MOST_ABSENT * len(texts)):
        raise UsageError(
            f"{folder} has no token {few(absent)}, which {type(tokenizer).__name__} writes", code="not-supported"
        )
    if absent:
        warnings.warn(
            f"{folder} has no token {few(absent)}: there it sees an unknown one, and it never predicts it", stacklevel=4
        )
    outputs = [tokens.ids.get(text, stands_in) for text in texts]
    state = model.state_dict()
    table = "embeddings.tok_embeddings.weight"
    state[table] = state[table][[*outputs, model.config.vocabulary.mask_ids[0]]]
    state |= {name: state[name][outputs] for name in ("decoder.weight", "decoder.bias") if name in state}
    if absent:
        state["decoder.bias"] = state["decoder.bias"].clone()
        state["decoder.bias"][[texts.index(text) for text in absent]] = NEVER
    native = Encoder(replace(model.config, vocabulary=tokenizer.vocabulary), seed=None)
    native.load_state_dict(state)
    return native


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, from one safetensors file or from the shards that its index lists."""
    if (folder / INDEX).exists():
        shards = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
        return {name: value for shard in shards for name, value in read_tensors(folder / inside(folder, shard)).items()}
    if not (folder / WEIGHTS).exists() and (folder / "pytorch_model.bin").exists():
        raise DataError(
            folder / "pytorch_model.bin",
            "is a pickle, which can run code, so it is not read\n\n"
            "hint: load it with transformers and save_pretrained it again, which writes safetensors",
            code="untrusted-code",
        )
    return read_tensors(folder / WEIGHTS)
