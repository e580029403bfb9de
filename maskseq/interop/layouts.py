"""What it takes to describe how another project stores an encoder: the spelling of its config, its tensors' names.

A `PublishedLayout` is data and two small functions, read both ways; `published.py` has the four we know. Neither needs
transformers or the network.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any

from torch import Tensor

from maskseq.errors import DataError, UsageError
from maskseq.model.config import EncoderConfig

Json = dict[str, Any]

BIASES = ("norm_bias", "attention_bias", "mlp_bias", "head_bias", "decoder_bias")
TRAINING_ONLY = ("embedding_dropout", "attention_dropout", "mlp_dropout", "init", "init_std", "init_cutoff")


@dataclass(frozen=True, kw_only=True)
class PublishedLayout:
    """One published layout."""

    architecture: str
    """The class that loads it."""
    always: Json
    """Switches that every model of this layout has."""
    defaults: Json = field(default_factory=dict)
    """Switches that their config may leave unsaid."""
    spelling: Mapping[str, tuple[str, ...]]
    """Our switch → their keys for it, of all ages; the first that is there is read, all are written."""
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    """Our switch → their value → ours."""
    read: Callable[[Json], Json]
    """Switches that take more than renaming."""
    write: Callable[[EncoderConfig], Json] | None
    """The inverse of `read`; None: transformers has no such class, so nothing is written."""
    names: dict[str, str]
    """Our module → theirs, parameters keep their `.weight` or `.bias`. `{i}` is the layer; `prefix:a|b` says that
    ours is a and b on top of each other. A key that names a parameter goes before its module's."""
    normal: Callable[[str], str] = str
    """A tensor name of any age → the one that `names` gives."""
    arranged: Callable[[str, Tensor, EncoderConfig], Tensor] = lambda name, value, config: value
    """Their tensor for our parameter, with rows in our order."""
    optional: str = "(?!)"
    """Pattern of *our* parameters that are 0 where their file lacks them."""
    unneeded: str = "(?!)"
    """Pattern of the tensors that masked modeling does without."""

    def switches(self, config: Json) -> Json:
        """The fields of `EncoderConfig`, but for the vocabulary, from their config."""
        found = self.always | self.defaults
        for ours, keys in self.spelling.items():
            given = [config[key] for key in keys if config.get(key) is not None]
            if given:
                found[ours] = self.values[ours].get(given[0]) if ours in self.values else given[0]
            if found.get(ours) is None:
                raise DataError(
                    "config.json",
                    f"{'/'.join(keys)} is {given[0] if given else 'missing'}, "
                    f"which is not a {self.architecture} that maskseq knows",
                    code="not-supported",
                )
        return found | self.read(config)

    def config(self, config: EncoderConfig) -> Json:
        """Their config for ours, in every spelling; only what `differences` does not name is kept."""
        assert self.write is not None
        written: Json = {"architectures": [self.architecture]}
        for ours, keys in self.spelling.items():
            value = getattr(config, ours)
            if ours in self.values:
                value = {v: k for k, v in self.values[ours].items()}.get(value)
            written |= dict.fromkeys(keys, value)
        return written | self.write(config)

    def with_zeros(self, config: EncoderConfig) -> EncoderConfig:
        """The same function with the biases and the segment table that this layout insists on, to be filled with 0."""
        zeros: Json = {name: True for name in BIASES if self.always.get(name)}
        if "token_types" in self.spelling and not config.token_types:
            zeros["token_types"] = 1
        return replace(config, **zeros)

    def differences(self, config: EncoderConfig) -> list[str]:
        """The switches that this layout cannot express, as text; none if an export computes the same."""
        try:
            back = EncoderConfig(vocabulary=config.vocabulary, **self.switches(self.config(config)))
        except (DataError, UsageError) as error:
            return [str(error)]
        return [
            f"{name} = {_shown(getattr(config, name))} (not {_shown(getattr(back, name))})"
            for name in EncoderConfig.__dataclass_fields__
            if name not in _idle(config) and getattr(config, name) != getattr(back, name)
        ]

    def theirs(self, name: str) -> list[str]:
        """The tensors of theirs that, on top of each other, are our parameter `name`."""
        layer = re.match(r"layers\.(\d+)\.", name)
        index = layer[1] if layer else ""
        key = re.sub(r"^layers\.\d+\.", "layers.{i}.", name)
        if key in self.names:
            return [self.names[key].format(i=index)]
        module, _, kind = key.rpartition(".")
        prefix, _, parts = self.names[module].format(i=index).rpartition(":")
        return [f"{prefix}{part}.{kind}" for part in parts.split("|")]


def _shown(value: object) -> str:
    return repr(asdict(value) if is_dataclass(value) and not isinstance(value, type) else value)


def _idle(config: EncoderConfig) -> set[str]:
    """Switches that do not matter to what this encoder computes."""
    idle = set(TRAINING_ONLY)
    if config.positions != "learned":
        idle |= {"max_positions"}
    if config.positions != "rope":
        idle |= {"rope_theta", "rope_theta_local", "rope_fraction", "rope_style"}
    if not (config.rope_fields or config.rope_gaps):
        idle |= {"rope_unit"}
    if config.global_every == 1:
        idle |= {"rope_theta_local", "window"}
    if config.placement == "post":
        idle |= {"first_norm"}
    if config.head == "none":
        idle |= {"head_bias"}
    return idle
