"""Facts on positions in the source text of a class of transformers. The text is read, never imported.

A configuration does not say which channels form a pair, which layers rotate, or whether a head has a sink: the code of
the class does. Where these patterns match nothing, the answer is None, which is shown as unknown.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INTERLEAVED = re.compile(
    r"\.\.\., ?0?::2\]|:, ?::2\]|view_as_complex|repeat_interleave\(2\b|repeat_interleave\([^\n]*, ?2, |-1, 1, 2\)"
)
HALF_SPLIT = re.compile(r"shape\[-1\] // 2|chunk\([^()\n]*\b2, dim=-1\)")
"""Code that takes neighbouring channels as a pair, and code that takes channels half a head apart."""

CONDITION = re.compile(r"\n +if ([^\n]+?):[^\n]*\n(?: +cos, sin[^\n]*\n)?[^\n]* = (?:self\.)?_?apply_\w*rot\w*\(")
"""The condition under which an attention module rotates."""

ALWAYS = {
    "position_embeddings is not None",
    "self.config.rope_interleave",
    "not is_cross_attention",
    "self.rotary_value",
}
"""Conditions that do not decide which layers rotate."""


@dataclass(frozen=True)
class ClassCode:
    """The parts of a modeling file that a model reaches."""

    text: str  # all of it
    attention: str  # its attention modules
    rotation: str  # the functions that rotate
    rotary: str  # the modules that make cosines and sines

    @property
    def has_sinks(self) -> bool:
        return bool(re.search(r"self\.sinks\b|s_aux|learnable_sink", self.attention))

    def pairing(self, config: Any) -> str | None:
        """Return `interleaved` or `half-split`; None if the text does not say."""
        if INTERLEAVED.search(self.rotation):
            chooses = "if self.config.rope_interleave" in self.attention
            return "half-split" if chooses and not getattr(config, "rope_interleave", True) else "interleaved"
        return "half-split" if HALF_SPLIT.search(self.rotation) else None

    def reads_share(self) -> bool:
        """Return True if the type `default` rotates only the share of each head that `partial_rotary_factor` gives."""
        default = re.search(r"def compute_default_rope_parameters.*?(?=\n    def |\Z)", self.rotary, re.DOTALL)
        return "partial_rotary_factor" in (default[0] if default else self.rotary)

    def rotates(self, config: Any, layer: int, is_sliding: bool) -> bool | None:
        """Return True if a layer rotates; None if that depends on a condition that is not understood."""
        if not self.rotation or not re.search(r"rotary|rotate|position_embeddings|freqs_cis", self.attention):
            return False
        kind, flags = getattr(config, "position_embedding_type", "rope"), getattr(config, "no_rope_layers", None) or []
        is_dense = (getattr(config, "mlp_layer_types", None) or [])[layer : layer + 1] == ["dense"]
        known = {
            "self.use_rope": bool(flags[layer]) if layer < len(flags) else None,
            "self.sliding_window is not None": is_sliding,
            "self.is_local_attention": is_sliding,
            "self.sliding_window is None or self.is_sliding": is_sliding or not getattr(config, "sliding_window", None),
            "self.sliding_window is not None or self.force_rope": is_sliding
            or (is_dense and getattr(config, "prefix_dense_sliding_window_pattern", None) == 1),
            "alibi is None": not getattr(config, "alibi", False),
            "self.config.use_mem_rope": bool(getattr(config, "use_mem_rope", False)),
            'self.position_embedding_type == "rotary"': kind == "rotary",
        }
        answers = {known.get(condition) for condition in {*CONDITION.findall(self.attention)} - ALWAYS}
        if kind not in ("rope", "rotary", "absolute"):
            return False
        return answers.pop() if len(answers) == 1 else None if answers else True


def class_code(config_class: Any) -> ClassCode:
    """Return the code of the class that a configuration class of transformers is for."""
    file, prefix = (
        Path(str(sys.modules[config_class.__module__].__file__)),
        config_class.__name__.removesuffix("Config"),
    )
    file = file.with_name(file.name.replace("configuration_", "modeling_"))
    if not file.is_file():  # as Exaone's configuration, whose models are of Llama's class
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        prefix = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config_class.model_type, "").removesuffix("ForCausalLM")
        files = file.parents[1].glob("*/modeling_*.py") if prefix else ()
        file = next((x for x in files if f"class {prefix}ForCausalLM(" in x.read_text(encoding="utf-8")), file)
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    blocks = re.split(r"^(?=(?:class|def) |[A-Z_]+ = )", text, flags=re.MULTILINE)[1:]
    named = {match[1]: block for block in blocks if (match := re.match(r"(?:class |def )?(\w+)", block))}
    first = [name for name in (f"{prefix}Model", f"{prefix}ForCausalLM", f"{prefix}PreTrainedModel") if name in named]
    waiting, reached = first[:1] or list(named), dict[str, str]()
    while waiting:
        if (name := waiting.pop()) not in reached:
            reached[name] = named[name]
            words = {*re.findall(r"\w+", named[name])} & named.keys()
            waiting += [word for word in sorted(words) if not word.endswith("PreTrainedModel")]
    attention = [block for name, block in reached.items() if "Attention" in name or "get_interface(" in block]
    rotation = [block for name, block in reached.items() if block[:3] == "def" and re.search("rot(ary|ate)", name)]
    rotary = [block for name, block in reached.items() if re.search("Rotary|RoPE|Rope", name)]
    return ClassCode(*("\n".join(part) for part in (reached.values(), attention, rotation, rotary)))
