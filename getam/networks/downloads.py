"""Pretrained weights that timm downloads: whether they are here, and fetching them.

A download that cannot work fails in seconds, in one sentence. timm and huggingface_hub alone try
for about a minute where there is no network, and then raise an error of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

import timm
import torch

from getam.errors import UserError

SECONDS = 10  # to wait for the first answer of a server
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order in which timm looks for them


class Source(NamedTuple):
    """Where timm gets the weights of a model: a repository of a hub with a file, or a URL."""

    repository: str | None
    file: str | None
    url: str | None

    @property
    def place(self) -> str:
        """The address, for messages."""
        if self.repository is None:
            return str(self.url)
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.repository}"


def check_tag(model: str) -> None:
    """Refuse a name such as ``vit_tiny_patch16_224.TAG`` if timm has no weights of this tag.

    Raises:
        UserError: it has none; those that it has are listed.
    """
    name, _, tag = model.partition(".")
    known = timm.list_pretrained(f"{name}.*") if tag else []
    if known and model not in known:
        raise UserError(
            f"{model}: timm has no weights of this name for {name}; it has {', '.join(known)}."
        )


def pretrained_source(model: str) -> Source:
    """Where timm gets the pretrained weights of a model.

    Raises:
        UserError: timm has no pretrained weights for it, or none of this tag.
    """
    check_tag(model)
    model = timm.models.get_deprecated_models().get(model) or model
    found = timm.get_pretrained_cfg(model)
    if found is None or not (found.hf_hub_id or found.url):
        raise UserError(
            f"{model}: timm has no pretrained weights for this model. Set its weights to none or "
            f"to a file, or choose another model: timm.list_pretrained() lists those with weights."
        )
    if found.hf_hub_id:
        return Source(found.hf_hub_id, found.hf_hub_filename, None)
    return Source(None, None, found.url)


def fetch_weights(
    model: str, setting: str = "weights", say: Callable[[str], None] = lambda message: None
) -> None:
    """Download the pretrained weights of a model, unless they are in the cache of timm.

    Args:
        setting: the setting that asks for them, for messages.
        say: told of a download that begins.

    Raises:
        UserError: there are no such weights, or they cannot be downloaded.
    """
    source = pretrained_source(model)
    if _is_here(source):
        return
    try:
        with _quiet():
            if source.repository is None:
                _fetch_url(str(source.url), lambda: say(_beginning(model, source)))
            else:
                _fetch_from_hub(source, lambda: say(_beginning(model, source)))
    except Exception as error:  # those of sockets, of the hub, of several HTTP libraries
        raise _refusal(model, setting, source, error) from None


def _beginning(model: str, source: Source) -> str:
    return f"downloading the weights of {model} from {source.place}"


def _is_here(source: Source) -> bool:
    if source.repository is None:
        return _url_file(str(source.url)).exists()
    from huggingface_hub import try_to_load_from_cache

    repository, revision = _split(source.repository)
    found = (try_to_load_from_cache(repository, n, revision=revision) for n in _files(source))
    return any(isinstance(path, str) for path in found)


def _files(source: Source) -> tuple[str, ...]:
    return (source.file,) if source.file else HUB_FILES


def _split(repository: str) -> tuple[str, str | None]:
    """A repository and, after @, its revision."""
    name, _, revision = repository.partition("@")
    return name, revision or None


def _fetch_from_hub(source: Source, begin: Callable[[], None]) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    repository, revision = _split(str(source.repository))
    for name in (names := _files(source)):
        url = hf_hub_url(repository, name, revision=revision)
        try:
            get_hf_file_metadata(url, timeout=SECONDS)  # once; the download itself tries often
        except EntryNotFoundError:
            if name == names[-1]:
                raise
            continue
        begin()
        hf_hub_download(repository, name, revision=revision)
        return


def _fetch_url(url: str, begin: Callable[[], None]) -> None:
    with urlopen(url, timeout=SECONDS):
        begin()
    target = _url_file(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(target))


def _url_file(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of the hub's library about each try: the one sentence says it all."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _refusal(model: str, setting: str, source: Source, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return UserError(
        f"{setting}: the pretrained weights of {model} are not on this machine, and cannot be "
        f"downloaded from {source.place} ({reason}). Check the network and run again; or save the "
        f"weights on another machine, copy the file here, and set {setting} to its path."
    )
