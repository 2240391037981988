"""``--device``: the option of every command that computes, and how what was chosen is said.

It is said on stderr before anything is computed (``device: cuda:0 (NVIDIA H100)``), and as ``device`` in the result.
"""

from typing import TYPE_CHECKING, Final

import click

from sonoshare_deploy.cli.output import progress_console
from sonoshare_shared.science.device_word import AUTO, WORDS, is_device_word

if TYPE_CHECKING:
    import torch


class _DeviceWord(click.ParamType[str]):
    """A word that names a device; whether it is here is found out when it is used."""

    name = "auto|cpu|cuda[:N]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word itself; a usage error where it is none."""
        if not is_device_word(value):
            self.fail(f"'{value}' is none of {WORDS}.", param, ctx)
        return value


DEVICE_WORD: Final = _DeviceWord()

device_option = click.option(
    "--device",
    type=DEVICE_WORD,
    default=AUTO,
    show_default=True,
    help="Where to compute; auto takes a GPU where there is one.",
)

node_device_option = click.option(
    "--device", type=DEVICE_WORD, help="Where to compute; by default as the node's home.toml says."
)


def found_device(asked: str) -> "tuple[torch.device, str]":
    """The device that a word names here, and what is to be said of it.

    Raises:
        InputError: there is no such device on this machine.
    """
    from sonoshare_shared.science.device import chosen_device, device_words  # noqa: PLC0415 - torch

    device = chosen_device(asked)
    return device, device_words(device)


def told_device(asked: str) -> "tuple[torch.device, str]":
    """The same, said on stderr.

    Raises:
        InputError: there is no such device on this machine.
    """
    device, words = found_device(asked)
    progress_console().print(f"device: {words}", highlight=False, markup=False)
    return device, words
