"""Models of Hugging Face's transformers.

`import poslab.pretrained` has transformers know the models under an encoding that were exported. It imports nothing of
transformers: they are registered as soon as somebody has imported its registry.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from poslab.pretrained.directory import has_transformers
from poslab.pretrained.exchanged_classes import register

REGISTRY = tuple(f"transformers.models.auto.{name}" for name in ("configuration_auto", "auto_factory", "modeling_auto"))
"""Modules that name the classes of transformers by the type of a model. They import one another in a circle, which is
closed once the first of them is imported."""


class RegisterAfterImport(MetaPathFinder):
    """Finder of the registry, which fills it once it is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if any(name in sys.modules for name in REGISTRY):
    register()
elif has_transformers():
    sys.meta_path.insert(0, RegisterAfterImport())
