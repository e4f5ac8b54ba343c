"""A model's files from the Hugging Face hub, or at once a clear sentence that there is no network."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

from radlens.core.errors import ModelError
from radlens.models.folder import (
    CONFIGS,
    PREPROCESSORS,
    TEXT_CONFIG,
    TOKENIZER_EXTRAS,
    TOKENIZERS,
    TRANSFORMERS_CONFIG,
    TRANSFORMERS_WEIGHTS,
    WEIGHTS,
    find_files,
)

PREFIX = "hf-hub:"
_SECONDS = 5.0


def fetch(hub: str, revision: str | None = None) -> Path:
    """Folder of a hub model's files: from the Hugging Face cache when they are whole, else downloaded, with resume.

    hub: `hf-hub:owner/name`. Only configuration, one set of weights and the tokenizer are downloaded. Raises
    `ModelError` within seconds where there is no network, and when the model does not exist or holds no such files.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = hub.removeprefix(PREFIX)
    if not hub.startswith(PREFIX) or name.count("/") != 1:
        raise ModelError(f"a hub model is written {PREFIX}owner/name, found {hub!r}.")
    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
        find_files(folder)
        return folder
    except HFValidationError as error:
        raise ModelError(f"a hub model is written {PREFIX}owner/name, found {hub!r}: {_first_line(error)}.") from error
    except (LocalEntryNotFoundError, ModelError):
        pass  # not downloaded, or not to the end
    by_hand = "download its files elsewhere and name their folder, model: {path: DIR}"
    reason = _unreachable()
    if reason is not None:
        raise ModelError(f"model {hub} is not on this machine and the hub cannot be reached ({reason}); {by_hand}.")
    wanted = [*CONFIGS, TRANSFORMERS_CONFIG, TEXT_CONFIG, *PREPROCESSORS, *TOKENIZERS, *TOKENIZER_EXTRAS]
    try:
        weights = _weights_of(name, revision)
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*wanted, weights]))
    except HfHubHTTPError as error:
        raise ModelError(f"model {hub} cannot be downloaded ({_first_line(error)}); {by_hand}.") from error
    except (OSError, _broken_off(HfHubHTTPError)) as error:
        raise ModelError(f"the download of {hub} broke off ({_first_line(error)}); run again to resume it.") from error
    find_files(folder)
    return folder


def _weights_of(name: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    listed = HfApi().list_repo_files(name, revision=revision)
    known = WEIGHTS + TRANSFORMERS_WEIGHTS if TRANSFORMERS_CONFIG in listed else WEIGHTS
    for candidate in known:
        if candidate in listed:
            return candidate
    raise ModelError(f"model {PREFIX}{name} holds none of {', '.join(known)}; it is in no layout that can be read.")


def _unreachable() -> str | None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_SECONDS):
            return None
    except urllib.error.HTTPError:
        return None  # it answers
    except (OSError, ValueError) as error:
        return _first_line(getattr(error, "reason", error))


def _broken_off(kind: type[Exception]) -> type[Exception]:
    # the client library's own base of "the connection broke", which has changed with the library and is no OSError
    found = (base for base in kind.__mro__ if base.__name__ == "HTTPError" and issubclass(base, Exception))
    return next(found, kind)


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
