"""Language models of a benchmark: a pretrained model under an encoding, or the model of a run."""

from __future__ import annotations

import contextlib
import errno
import gc
import inspect
import json
import sqlite3
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial, partialmethod
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM
from torch import Tensor

from poslab.configuration.build import build, full_keys
from poslab.data import cache
from poslab.data.tokenizers import Tokenizer, load_tokenizer
from poslab.encodings import EncodingFactory, PositionalEncoding, Rotary, TemperatureFactory
from poslab.evaluation.benchmarks.harness import HarnessModel
from poslab.models import Model
from poslab.pretrained.borrow import exchange
from poslab.pretrained.directory import configuration, errors_of_library, with_weights
from poslab.pretrained.exchange import Exchange
from poslab.pretrained.export.directory import copy_tokenizer, form_of
from poslab.pretrained.families import text_of
from poslab.pretrained.proof import family_of
from poslab.runs.checkpoint import checkpoint_file
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import DiskError
from poslab.runs.loading import export, load

if TYPE_CHECKING:
    from poslab.pretrained.export.directory import Exported
    from poslab.pretrained.export.gguf_file import ExportedFile

LOCK_TIMEOUT_S = 60
"""Longest time to wait for another process that writes answers."""

PRETRAINED = "poslab.encodings.PretrainedPositions"


FULL = {
    "errno": (errno.ENOSPC, errno.EDQUOT),
    "sqlite_errorcode": (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE),
}
"""Codes of errors, by their attribute, for a disk or a quota that is full."""


class Answers(dict[str, Any]):
    """Answers by the hash of what was asked, kept in a file of SQLite as JSON, each as soon as it is known.

    A file that is damaged, or has something else, is replaced; nothing is kept where none can be written.

    Raises:
        DiskError: where the disk is full; the answers until then are kept.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._folder = file.parent
        self._connection: sqlite3.Connection | None = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._open(file)
            except (sqlite3.DatabaseError, ValueError) as error:
                if isinstance(error, sqlite3.OperationalError):  # it is locked, or the disk is full
                    raise
                self.clear()
                file.unlink()
                self._open(file)
        except (OSError, sqlite3.OperationalError) as error:
            self._stop(error)

    def _open(self, file: Path) -> None:
        connection = sqlite3.connect(file, timeout=LOCK_TIMEOUT_S, isolation_level=None)
        connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT)")
        for key, text in connection.execute("SELECT key, value FROM answers"):
            super().__setitem__(key, _answer_of(text))
        self._connection = connection

    def __setitem__(self, key: str, answer: Any) -> None:
        super().__setitem__(key, answer)
        if self._connection is not None:
            try:
                self._connection.execute("REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(answer)))
            except sqlite3.DatabaseError as error:
                self._stop(error)

    def _stop(self, error: Exception) -> None:
        if any(getattr(error, attribute, None) in codes for attribute, codes in FULL.items()):
            raise DiskError(f"{self._folder}: {error}; what was answered before is kept, and the same command resumes")
        self._connection = None
        print(f"warning: answers are not kept, and are asked again after an interruption: {error}", file=sys.stderr)

    def commit(self) -> None:
        """Do nothing: each answer is kept already."""


def _answer_of(text: object) -> Any:
    """Return an answer: generated text, or a log probability, with whether it is the greatest or without."""
    answer = json.loads(text) if isinstance(text, str) else None
    match answer:
        case str() | float() | int() | [float() | int(), bool()]:
            return answer
    raise ValueError("it is not an answer")


class Subject(ABC):
    """A model that is measured.

    Args:
        name: of its encoding, for tables.
        seed: of its training, or of the new parameters of its encoding.
        words: of the command line that choose it.
        path: of its directory.
        device: of its weights while it is measured.
        config: resolved configuration of its run, or of a run that would train it.
    """

    training_length: int
    """Longest training length."""

    steps: int
    """Steps of training that made its encoding: 0 of a pretrained model before any."""

    def __init__(
        self, name: str, seed: int, words: Sequence[str], path: str, device: torch.device, config: Mapping[str, Any]
    ) -> None:
        self.name, self.seed, self.words, self.path, self.device, self.config = name, seed, words, path, device, config

    @property
    def untrained(self) -> int:
        """Numbers that its encodings learn, but no training has set."""
        return 0

    @property
    def rope(self) -> str:
        """Its rotation before any training: none, plain, or scaled."""
        rotations = [encoding for encoding in self.encodings if isinstance(encoding, Rotary)]
        kinds = {"plain" if rotation.scaling is None else "scaled" for rotation in rotations}
        return "scaled" if "scaled" in kinds else "plain" if kinds else "none"

    @property
    @abstractmethod
    def files(self) -> list[Path]:
        """Files with its weights and its configuration."""

    @property
    @abstractmethod
    def encodings(self) -> Iterable[PositionalEncoding]:
        """Its encodings, none if it has its own."""

    @property
    @abstractmethod
    def tokenizer(self) -> Any:
        """Its tokenizer, of transformers or ours."""

    @property
    @abstractmethod
    def end(self) -> int | None:
        """Number of positions at which it ends; None if it does not."""

    @abstractmethod
    def lm(self, length: int) -> Any:
        """Return the language model for prompts of at most this many tokens."""

    @abstractmethod
    def export(self, to: Path) -> Exported | ExportedFile:
        """Write it, with its tokenizer, as `poslab.export` does."""

    @abstractmethod
    def check_export(self) -> None:
        """Raise ValueError if `export` cannot write it in any form."""

    def close(self) -> None:
        """Give back the memory of its weights."""
        vars(self).pop("_opened", None)
        gc.collect()

    @property
    def identity(self) -> str:
        """A name that another model has only if its answers are the same."""
        code = {Path(inspect.getfile(type(encoding))) for encoding in self.encodings}  # it may be edited
        stats = sorted((str(f.absolute()), f.stat().st_size, f.stat().st_mtime_ns) for f in (*self.files, *code))
        parts = {key: self.config.get(key) for key in ("model", "encoding", "positions", "temperature", "attention")}
        return cache.key(
            {
                "files": stats,
                "config": json.loads(json.dumps(parts, default=str)),
                "seed": self.seed,
                "version": version("poslab"),
                "dtype": str(getattr(self, "_dtype", "")),
            }
        )

    def answering(self, length: int, answers: Path) -> Any:
        """Return the language model with its answers kept in a file, where those that are known are not asked again."""
        lm = self.lm(length)
        caching = CachingLM(lm, ":memory:")
        caching.dbdict.close()
        caching.dbdict = Answers(answers / f"{self.identity}-{length}.db")
        lm.set_cache_hook(caching.get_cache_hook())
        return caching


class QuietHFLM(HFLM):
    """The harness's own form of a model of transformers, without bars."""

    loglikelihood = partialmethod(HFLM.loglikelihood, disable_tqdm=True)
    loglikelihood_rolling = partialmethod(HFLM.loglikelihood_rolling, disable_tqdm=True)
    generate_until = partialmethod(HFLM.generate_until, disable_tqdm=True)


class PretrainedSubject(Subject):
    """A pretrained model under an encoding.

    Args:
        dtype: of its weights, and others as in `Subject`.
    """

    steps = 0

    def __init__(self, *subject: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(*subject)
        self._config, self._dtype = configuration(self.path), dtype
        self._family = family_of(self._config)
        self._facts = self._family.facts(text_of(self._config))
        self.training_length = self._facts.training_length

    @property
    def rope(self) -> str:
        return "none" if self._facts.base is None else "plain" if self._facts.stretch == 1.0 else "scaled"

    @property
    def files(self) -> list[Path]:
        folder = Path(self.path)
        return [file for kind in ("safetensors", "json", "jinja") for file in folder.glob(f"*.{kind}")]

    @property
    def encodings(self) -> Iterable[PositionalEncoding]:
        _, replaced = self._opened
        return () if replaced is None else replaced.encodings

    @property
    def untrained(self) -> int:
        parameters = {parameter for encoding in self.encodings for parameter in encoding.parameters()}
        return sum(parameter.numel() for parameter in parameters)

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with errors_of_library(self.path):
            tokenizer = AutoTokenizer.from_pretrained(self.path, trust_remote_code=False, local_files_only=True)
        if tokenizer.bos_token_id is tokenizer.eos_token_id is None:
            raise ValueError(f"path={self.path} must have a tokenizer with bos_token or eos_token, which begins a text")
        return tokenizer

    @property
    def _is_untouched(self) -> bool:
        return self.config["encoding"]["_target_"] == PRETRAINED and self.config.get("temperature") is None

    @cached_property
    def _opened(self) -> tuple[Any, Exchange | None]:
        """The model of transformers, and the exchange of its encoding; None if it has its own."""
        from transformers import AutoModelForCausalLM

        layers = self._family.layers.rpartition(".")[2]
        model, has_head = with_weights(AutoModelForCausalLM, self.path, self._config, layers)
        if not has_head:
            raise ValueError(f"path={self.path} has no weights of an output layer, without which nothing is predicted")
        model = model.to(self.device, self._dtype).eval()
        if self._is_untouched:
            with contextlib.suppress(ValueError, ImportError):  # then it goes on with the attention that it has
                model.set_attn_implementation("sdpa")
            return model, None
        torch.manual_seed(self.seed)
        with full_keys("encoding", self.config):
            encoding = build(self.config, "encoding", EncodingFactory)
        chosen = self.config.get("temperature")
        temperature = None if chosen is None else build(self.config, "temperature", TemperatureFactory)
        return model, exchange(model, encoding, temperature)

    @property
    def end(self) -> int | None:
        _, replaced = self._opened
        if replaced is not None:
            return replaced.encodings.end_with(None)
        return None if self._family.rows is None else self.training_length

    def lm(self, length: int) -> Any:
        model, device = self._opened[0], str(self.device)
        return QuietHFLM(pretrained=model, tokenizer=self.tokenizer, max_length=length, batch_size=1, device=device)

    def export(self, to: Path) -> Exported | ExportedFile:
        exported = export(self._opened[0], to)
        copy_tokenizer(self.path, to, self.training_length)
        return exported

    def check_export(self) -> None:
        form_of(self._opened[0], self.training_length)


class InWindows(Subject):
    """A model that reads a longer text in windows of its training length, which move by half of that.

    The baseline of every setting for longer texts, for it costs nothing: each token has at least half a window before
    it, and of a longer prompt the last tokens are read.
    """

    def __init__(self, subject: Subject, name: str = "in_windows") -> None:
        super().__init__(name, subject.seed, subject.words, subject.path, subject.device, subject.config)
        self._subject, self.training_length, self.steps = subject, subject.training_length, subject.steps

    @property
    def files(self) -> list[Path]:
        return self._subject.files

    @property
    def encodings(self) -> Iterable[PositionalEncoding]:
        return self._subject.encodings

    @property
    def tokenizer(self) -> Any:
        return self._subject.tokenizer

    end = None

    @property
    def identity(self) -> str:
        return f"{self._subject.identity}w"

    def lm(self, length: int) -> Any:
        lm = self._subject.lm(min(length, self.training_length))
        lm._model_call = partial(logits_in_windows, lm._model_call, self.training_length)
        return lm

    def export(self, to: Path) -> Exported | ExportedFile:
        return self._subject.export(to)

    def check_export(self) -> None:
        self._subject.check_export()

    def close(self) -> None:
        self._subject.close()


def logits_in_windows(read: Callable[..., Tensor], window: int, tokens_1T: Tensor, **others: Any) -> Tensor:
    """Return logits (1, T, V) of a text, each of a token with at least half a window of tokens before it, if there are.

    Args:
        read: returns the logits of at most `window` tokens.
    """
    length, half = tokens_1T.shape[1], max(window // 2, 1)
    logits = [read(tokens_1T[:, :window], **others)]
    for covered in range(window, length, half):
        end = min(covered + half, length)
        logits.append(read(tokens_1T[:, end - window : end], **others)[:, covered - end :])
    return torch.cat(logits, 1)


class RunSubject(Subject):
    """The model of a finished run.

    Args:
        length, steps: of its training; `trust` and `swap` as of `load`, and others as in `Subject`.
    """

    def __init__(
        self, *subject: Any, length: int, steps: int, trust: Sequence[str] = (), swap: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(*subject)
        self.config = {**self.config, **(swap or {})}
        self.training_length, self.steps, self._trust, self._swap = length, steps, trust, swap

    @property
    def files(self) -> list[Path]:
        return [checkpoint_file(self.path)]

    @property
    def encodings(self) -> Iterable[PositionalEncoding]:
        return self._opened.encodings

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(RunDirectory.of(self.path, self._trust).path)

    @cached_property
    def _opened(self) -> Model:
        return load(self.path, self.device, self._swap, self._trust)

    @property
    def end(self) -> int | None:
        return self._opened.max_length

    def lm(self, length: int) -> HarnessModel:
        return HarnessModel(self._opened, self.tokenizer, length)

    def under(self, name: str, swap: Mapping[str, Any] | None) -> RunSubject:
        """Return the same weights under another encoding, as `load` swaps it, with a name."""
        known = (name, self.seed, self.words, self.path, self.device, self.config)
        steps = self.steps if swap is None else 0
        return RunSubject(*known, length=self.training_length, steps=steps, trust=self._trust, swap=swap)

    def check_export(self) -> None:
        form_of(self._opened, self.training_length)

    def export(self, to: Path) -> Exported | ExportedFile:
        if self._swap is None:
            return export(self.path, to, trust=self._trust)
        return export(self._opened, to, tokenizer=self.tokenizer, length=self.training_length)
