"""Continues a text, or answers it: `python -m src.generate run=outputs/RUN prompt="A list is"`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from poslab.arguments import shown
from poslab.cli.help import generate_help
from poslab.cli.hydra_command import command
from poslab.configuration.build import trusted_packages
from poslab.configuration.command_line import key_of
from poslab.io.terminal import HarmlessConsole, harmless, take_any_character
from poslab.tasks.task import snake

DEFAULT_NEW_TOKENS = 400

SAMPLING = ("temperature", "top_k", "top_p")

OPTIONS = ("max_new_tokens", *SAMPLING, "seed", "beams")
"""Keys that say how tokens are chosen; no task accepts all of them."""


def main(config: dict[str, Any], directory: Path, overrides: list[str], prompt: str | None = None) -> None:
    """Print the prompt and its continuation as it comes, or the answer to it, as the run has learned.

    Arguments are as of `command`. A prompt of `-` is each line of standard input; None is the configuration's.
    """
    from poslab.generation.token_choice import Sampling
    from poslab.runs.directory import RunDirectory
    from poslab.runs.recipe import recipe_of

    if config["run"] in (None, ""):
        raise ValueError("run must name a run directory or one of its checkpoints: run=outputs/RUN")
    trust = trusted_packages(config)
    run = RunDirectory.of(config["run"], trust)
    sampling = Sampling(**config["sampling"])
    seed, max_new_tokens = config["seed"], config["max_new_tokens"]
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 4294967295, got {shown(seed)}")
    if max_new_tokens is not None and (type(max_new_tokens) is not int or max_new_tokens < 1):
        raise ValueError(f"max_new_tokens must be a positive integer or null, got {max_new_tokens}")

    text = str(config["prompt"]) if prompt is None else prompt
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("prompt must be UTF-8 text") from error
    recipe = recipe_of(run)
    typed, options = {key_of(word).removeprefix("sampling.") for word in overrides}, recipe.task.generation_options
    for option in (option for option in OPTIONS if option not in options):
        if option in typed or (option in SAMPLING and "sampling" in typed):
            name, accepted = snake(recipe.task.__name__).replace("_", " "), ", ".join(options) or "none"
            raise ValueError(f"{option} must be left out for a run of {name} (options: {accepted})")
    if "temperature" not in options:
        _predict(config, text, max_new_tokens, trust)
        return
    if text == "-":
        raise ValueError(
            "prompt must be a text for a language model, got -, which is for runs that answer line by line"
        )

    import torch

    from poslab.data.tokenizers import load_tokenizer
    from poslab.generation.decoding import generate, stream_text
    from poslab.runs.loading import device_named, load

    model = load(config["run"], device_named(config["device"]), trust=trust)
    device = next(model.parameters()).device
    tokenizer = load_tokenizer(run.path)
    prompt_tokens = tokenizer.encode(text).tolist()
    # What comes before a document in training is the end of another.
    context = torch.tensor([prompt_tokens or [tokenizer.end_id]], device=device)
    if max_new_tokens is None:
        room = DEFAULT_NEW_TOKENS if model.max_length is None else model.max_length - context.shape[1]
        max_new_tokens = min(DEFAULT_NEW_TOKENS, max(1, room))
    generator = torch.Generator(device).manual_seed(seed)
    continuation = generate(model, context, max_new_tokens, sampling, generator=generator, end_id=tokenizer.end_id)

    take_any_character()
    console = HarmlessConsole()
    cleaned = harmless if console.is_terminal else str  # a file gets what the model has written
    console.out(cleaned(text), style="bold", end="")
    for piece in stream_text(tokenizer, prompt_tokens, (int(token) for token in continuation)):
        console.out(cleaned(piece), end="")
    console.out("")


def _predict(config: dict[str, Any], text: str, max_new_tokens: int | None, trust: Sequence[str]) -> None:
    """Print the answer to a text, or to each line of standard input one line."""
    from poslab.runs.loading import serve

    answer = serve(
        config["run"],
        config["device"],
        beams=config["beams"],
        max_new_tokens=max_new_tokens or DEFAULT_NEW_TOKENS,
        trust=trust,
    )
    take_any_character()
    console = HarmlessConsole()
    if text == "-":
        for number, line in enumerate(sys.stdin.buffer, start=1):
            try:
                text = line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(f"prompt=- must be UTF-8 text, but line {number} is not") from error
            console.out(harmless(answer(text).text.replace("\n", " ")) if text.strip() else "")
        return
    if not text.strip():
        raise ValueError('prompt must be a text to answer: prompt="...", or prompt=- for the lines of standard input')
    answered = answer(text)
    console.out(harmless(answered.text) or "(none)", style="bold")
    for name, probability in answered.probabilities.items():
        console.out(f"{probability:8.4f}  {harmless(name)}")


def _pop_argument(arguments: list[str], key: str) -> str | None:
    """Take `key=text` from a command line, and return the text of the last."""
    given = [argument for argument in arguments if argument.startswith(f"{key}=")]
    arguments[:] = [argument for argument in arguments if argument not in given]
    return given[-1].partition("=")[2] if given else None


def _with_full_key(argument: str) -> str:
    """Return `temperature=0` as `sampling.temperature=0`: Hydra takes the short one for the group of that name."""
    return f"sampling.{argument}" if argument.partition("=")[0] in SAMPLING else argument


def run() -> None:
    """Run the command, and exit."""
    # Hydra's grammar would ask for quotes within the shell's around a comma, a bracket or an equals sign.
    prompt = _pop_argument(sys.argv, "prompt")
    sys.argv = [_with_full_key(argument) for argument in sys.argv]
    command("generate", partial(main, prompt=prompt), generate_help)
