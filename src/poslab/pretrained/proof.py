"""Proof that the positions of a class of transformers can be replaced, on a tiny model of it with random weights.

Under its own positions, the model must compute with Poslab's attention what it computes without: on whole texts, with
padding, and in pieces with a cache. Under other encodings nothing of its own positions may be left, and it must not see
later tokens, nor differ after padding or with a cache. Dimension letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from hashlib import sha256
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poslab.data.source import default_cache
from poslab.encodings import Alibi, NoPosition, PositionalEncoding, PretrainedPositions, StackEncodings
from poslab.io.files import read_json, write_atomically
from poslab.pretrained.directory import quiet_library
from poslab.pretrained.discovery import LENGTH, VOCABULARY, candidates, first_words, tiny_config, tiny_model, tiny_text
from poslab.pretrained.exchange import Exchange, undo
from poslab.pretrained.families import FAMILIES, PREFIX, REFUSED, Family, check_rotation, declared, text_of

SOURCES = Path(__file__).parent  # code on which a proof depends, besides the classes of transformers

TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4}
"""Largest difference of logits, as a share of the largest logit or of 1."""

PADDING = 3  # tokens of padding before a text


def family_of(config: Any) -> Family:
    """Return the family of a configuration.

    ValueError for a model whose attention cannot be replaced; the message starts with `model`.
    """
    if config.model_type.startswith(PREFIX):
        raise ValueError(
            "model must have its own positions, got one exported under an encoding: start from the run that "
            "it was exported from, or with the model before"
        )
    config = text_of(config)
    check_rotation(config)
    if config.model_type not in FAMILIES:
        return proved(config)
    family = FAMILIES[config.model_type]
    allowed = REFUSED | {"is_causal": (None, family.causal)}
    for key, values in allowed.items():
        if (value := getattr(config, key, None)) not in values:
            raise ValueError(f"model must not have {key}={value!r} in its config.json: Poslab has no counterpart")
    for kind in declared(config, "layer_types") or ():
        if kind not in ("full_attention", "sliding_attention"):
            raise ValueError(f"model must not have layers of {kind}: Poslab has no counterpart")
    return family


def proved(config: Any) -> Family:
    """Return the descriptor of a class as `prove` does, once for each class, tiny configuration and version.

    Outcomes are kept in the folder of the cache, by a hash of all that they depend on.
    """
    parts = [f"{type(config).__module__}.{type(config).__name__}", version("transformers"), torch.__version__]
    parts += [
        json.dumps(config.to_dict(), default=str, sort_keys=True),
        *(file.read_text() for file in sorted(SOURCES.rglob("*.py"))),
    ]
    file = default_cache() / "proofs" / f"{sha256(chr(0).join(parts).encode()).hexdigest()[:32]}.json"
    outcome = _kept(file)
    if outcome is None:
        try:
            outcome = json.loads(json.dumps(asdict(prove(config))))
        except ValueError as error:
            outcome = {"refused": str(error)}
        with contextlib.suppress(OSError):  # such as a cache that cannot be written: the proof takes a second
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(outcome))
    if "refused" in outcome:
        raise ValueError(f"model of type {config.model_type} is not supported: {outcome['refused']}")
    return Family(**outcome)


def _kept(file: Path) -> dict[str, Any] | None:
    """Return the outcome of an earlier proof; None if there is none that can be read."""
    try:
        outcome = read_json(file)
    except (OSError, ValueError):
        return None
    fields = {field.name for field in dataclasses.fields(Family)}
    return outcome if outcome.keys() in ({"refused"}, fields) else None


def prove(config: Any) -> Family:
    """Return the descriptor of a class, if a tiny model of a configuration passes every check under it.

    ValueError in one sentence that names the check that failed.
    """
    with quiet_library(), warnings.catch_warnings(action="ignore"):
        small, failures = tiny_config(config), []
        model = _running(small)
        for family in _candidates(model):
            try:
                with torch.no_grad():
                    for check in (_own, _disabled, _replaced):
                        check(model, family)
                    _padded(tiny_model(small, torch.float32), family)
                    return _with_head(model, _with_packing(model, family))
            except ValueError as error:
                failures.append(str(error))
            except Exception as error:
                failures.append(f"the attention of Poslab fails: {first_words(error)}")
            undo(family.base_of(model))
        raise ValueError(failures[-1])


def _candidates(model: Any) -> Iterator[Family]:
    try:
        yield from candidates(model)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"its parts are not understood: {first_words(error)}") from error


def _running(config: Any) -> Any:
    """Return a tiny model in float64, or in float32 where a class computes no float64 (grouped experts)."""
    for dtype in TOLERANCE:
        try:
            model = tiny_model(config, dtype)
            with torch.no_grad():
                model(input_ids=tiny_text(), use_cache=False)
        except Exception as error:
            failure = error
        else:
            return model
    raise ValueError(f"a tiny model does not run: {first_words(failure)}") from failure


def _own(model: Any, family: Family) -> None:
    expected, pieces = _logits(model, tiny_text()), _pieces(model) if family.causal else None
    if family.rows is not None and "position_ids" in signature(model.forward).parameters:
        ids = torch.arange(LENGTH).expand(2, LENGTH) + family.first_id(model.config)
        _compare("position ids", _logits(model, tiny_text(), position_ids=ids), expected)
    with _under(PretrainedPositions, model, family):
        _compare("own positions", _logits(model, tiny_text()), expected)
        if pieces is not None:
            _compare("own positions with a cache", _pieces(model), pieces)
    _compare("undone", _logits(model, tiny_text()), expected)


def _disabled(model: Any, family: Family) -> None:
    """Check that no position is left: where all tokens are the same, and nothing but attention mixes them, all are."""
    names = " ".join(name for name, _ in model.named_parameters())
    if any(part in names for part in ("sink", "conv", "mamba", "linear_attn")):
        return
    with _under(NoPosition, model, family):
        logits = _logits(model, torch.full_like(tiny_text(), 5))
        _compare("own positions disabled", logits, logits[:, :1].expand_as(logits))


def _replaced(model: Any, family: Family) -> None:
    text, own = tiny_text(), _logits(model, tiny_text())
    for encoding in (NoPosition, Alibi):
        name = encoding.__name__
        with _under(encoding, model, family):
            logits = _logits(model, text)
            if encoding is Alibi and torch.allclose(logits, own, rtol=1e-3, atol=1e-3):
                raise ValueError("check 'replaced' failed: Alibi changes no logits")
            if family.causal:
                changed = text.clone()
                changed[:, -1] = (changed[:, -1] + 1) % VOCABULARY
                _compare(f"causal under {name}", _logits(model, changed)[:, :-1], logits[:, :-1])
                _compare(f"cache under {name}", _pieces(model), logits)


def _padded(model: Any, family: Family) -> None:
    """Check padding in float32: in float64, a query of padding makes NaN of its row in transformers."""
    expected = _after_padding(model, family)
    with _under(PretrainedPositions, model, family):
        _compare("own positions after padding", _after_padding(model, family), expected)
    for encoding in (NoPosition, Alibi):
        with _under(encoding, model, family):
            _compare(f"padding under {encoding.__name__}", _after_padding(model, family), _logits(model, tiny_text()))


def _with_packing(model: Any, family: Family) -> Family:
    """Return a family that packs documents if the untouched model does, and check that it does so under encodings.

    ValueError, naming the check that failed.
    """
    if not family.causal or "position_ids" not in signature(model.forward).parameters:
        return replace(family, packs=False)
    text, half = tiny_text(), LENGTH // 2
    ids = torch.arange(LENGTH).remainder(half).expand(2, -1) + family.first_id(model.config)

    def packed() -> Tensor:
        return _logits(model, text, position_ids=ids)

    def apart() -> Tensor:
        return torch.cat([_logits(model, text[:, :half]), _logits(model, text[:, half:])], dim=1)

    expected = packed()
    if family not in FAMILIES.values():
        family = replace(family, packs=torch.allclose(expected, apart(), rtol=1e-3, atol=1e-3))
    if family.packs:
        with _under(PretrainedPositions, model, family):
            _compare("own positions of packed documents", packed(), expected)
        for encoding in (NoPosition, Alibi):
            with _under(encoding, model, family):
                _compare(f"packed documents under {encoding.__name__}", packed(), apart())
    return family


def _with_head(model: Any, family: Family) -> Family:
    """Return a family without a head if that does not make the logits of hidden states."""
    base, head = family.base_of(model), getattr(model, "lm_head", None)
    hidden_BTM = base(input_ids=tiny_text(), use_cache=False).last_hidden_state
    logits_BTV = None if head is None else family.scaled(head(hidden_BTM), base.config)
    same = logits_BTV is not None and torch.allclose(logits_BTV, _logits(model, tiny_text()), rtol=1e-5, atol=1e-4)
    return family if same or family in FAMILIES.values() else replace(family, head=())


@contextlib.contextmanager
def _under(encoding: type[PositionalEncoding], model: Any, family: Family) -> Iterator[None]:
    """Replace the positions of a model; a check that fails leaves that to `prove`, which undoes it."""
    exchange = Exchange(model, family, StackEncodings(encoding, family.shape(model.config)).eval())
    yield
    exchange.undo()


def _logits(model: Any, ids_BT: Tensor, **others: Any) -> Tensor:
    logits_BTV: Tensor = model(input_ids=ids_BT, use_cache=False, **others).logits
    return logits_BTV


def _after_padding(model: Any, family: Family) -> Tensor:
    ids_BT = torch.cat([tiny_text().new_zeros(2, PADDING), tiny_text()], dim=1)
    real = torch.ones_like(ids_BT)
    real[:, :PADDING] = 0
    positions = (real.cumsum(1) - 1).clamp_min(0) + family.first_id(model.config)
    ids = {"position_ids": positions} if "position_ids" in signature(model.forward).parameters else {}
    return _logits(model, ids_BT, attention_mask=real, **ids)[:, PADDING:]


def _pieces(model: Any) -> Tensor:
    """Return the logits of half a text, and of each token after it, with a cache."""
    cache, logits, ids_BT = None, [], tiny_text()
    for piece in (slice(0, LENGTH // 2), *(slice(i, i + 1) for i in range(LENGTH // 2, LENGTH))):
        name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        output = model(input_ids=ids_BT[:, piece], use_cache=True, **{name: cache})
        cache = output[name]
        logits.append(output.logits)
    return torch.cat(logits, dim=1)


def _compare(check: str, actual: Tensor, expected: Tensor) -> None:
    gap = float((actual - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    if not gap <= TOLERANCE[expected.dtype]:
        raise ValueError(f"check '{check}' failed: logits differ by {gap:.1g} of the largest")
