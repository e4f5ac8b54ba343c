"""The network of CheXbert: BERT-base with one linear head a condition on its first token."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from radlens.core.errors import ModelError

ARCHITECTURE: dict[str, Any] = {
    "vocab_size": 30_522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}
"""The configuration of bert-base-uncased."""
CLASSES = (*(4 for _ in range(13)), 2)
"""Classes of each head: blank, positive, negative, uncertain; the last, No Finding, knows only the first two."""
# kept by older transformers beside the weights: the numbers 0 to 511
_ALLOWED_EXTRA = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")


class ChexbertNetwork(nn.Module):
    """CheXbert (Smit et al., EMNLP 2020). Parameters are named as in its released checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = BertModel(BertConfig(**ARCHITECTURE))
        self.linear_heads = nn.ModuleList(nn.Linear(self.bert.config.hidden_size, n) for n in CLASSES)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens int64 (B, T) padded, mask int64 (B, T) 1 at a token -> logits (B, 14, 4).

        The two classes that No Finding lacks are minus infinity.
        """
        first = self.bert(input_ids=tokens, attention_mask=mask).last_hidden_state[:, 0]
        logits = [head(first) for head in self.linear_heads]
        return torch.stack([nn.functional.pad(x, (0, 4 - x.shape[1]), value=-torch.inf) for x in logits], dim=1)


def load_network(path: Path, device: torch.device) -> ChexbertNetwork:
    """CheXbert with the weights of `chexbert.pth` (or the same tensors as `.safetensors`), in float32, ready to infer.

    No code in the file is run. Raises `ModelError` in one sentence naming the first tensor that is missing, unexpected
    or of another shape.
    """
    state = _read(path)
    # without memory, so that nothing is initialised at random only to be overwritten
    with torch.device("meta"):
        network = ChexbertNetwork()
    network.load_state_dict(_fitted(network, state, path), strict=True, assign=True)
    for name, buffer in list(network.named_buffers()):
        owner, _, attribute = name.rpartition(".")
        value = torch.zeros(buffer.shape, dtype=buffer.dtype)
        if attribute == "position_ids":
            value = torch.arange(buffer.shape[-1]).expand(buffer.shape).clone()
        elif attribute != "token_type_ids":
            raise ModelError(f"this version of transformers has a buffer {name} that CheXbert does not know of.")
        network.get_submodule(owner).register_buffer(attribute, value, persistent=False)
    return network.to(device).eval()


def infer(
    network: ChexbertNetwork,
    rows: Sequence[Sequence[int]],
    batch_size: int,
    progress: Callable[[int], None] = lambda done: None,
) -> npt.NDArray[np.float32]:
    """Token ids of N texts -> probabilities float32 (N, 14, 4), in the order of the texts; 0 for a class a head lacks.

    Batches hold texts of like length, the longest first: the least padding, and a lack of memory shows at once.
    progress: called with how many texts are done.
    """
    device = next(network.parameters()).device
    order = sorted(range(len(rows)), key=lambda row: (-len(rows[row]), row))
    found = np.empty((len(rows), len(CLASSES), 4), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            texts = [torch.tensor(rows[row], dtype=torch.int64) for row in chosen]
            tokens = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=0)
            lengths = torch.tensor([len(text) for text in texts])
            mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).to(torch.int64)
            logits = network(tokens.to(device), mask.to(device))
            found[chosen] = logits.float().softmax(dim=-1).cpu().numpy()
            progress(start + len(chosen))
    return found


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            # the mapping of memory needs the zip format that torch writes since 1.6; the release may be older
            with path.open("rb") as file:
                is_zip = file.read(4) == b"PK\x03\x04"
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:160]
        raise ModelError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as weights: {reason}; it is damaged, not wholly "
            "downloaded, or no checkpoint: fetch chexbert.pth again."
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("model_state_dict"), Mapping):
        state = state["model_state_dict"]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        keys = ", ".join(repr(key) for key in list(state)[:5]) if isinstance(state, Mapping) else type(state).__name__
        raise ModelError(f"{path} is no checkpoint of CheXbert: expected the key 'model_state_dict', found {keys}.")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _fitted(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    expected = network.state_dict()
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected and name not in _ALLOWED_EXTRA]
    for names, what in ((missing, "lacks"), (extra, "holds the unexpected")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelError(f"{path} is no checkpoint of CheXbert: it {what} tensor {names[0]}{more}.")
    for name, wanted in expected.items():
        if state[name].shape != wanted.shape:
            raise ModelError(
                f"{path} is no checkpoint of CheXbert: tensor {name} has shape {tuple(state[name].shape)}, expected "
                f"{tuple(wanted.shape)}."
            )
    return {name: state[name].float() for name in expected}
