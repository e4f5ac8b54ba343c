"""A miniature of BiomedCLIP in the released layout, random weights: built in a second, loaded by the real loader."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

WORDS = "the of a no with and is chest x ray radiograph image heart lung normal effusion pleural pneumonia"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
# timm's test_vit: 6 blocks of width 64 on 160 pixels in patches of 16, class token pooled
VISION = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}


def build_miniature(folder: Path, *, seed: int = 0, vision: dict[str, Any] | None = None) -> Path:
    """Write a model folder: 6-block vision transformer with a 10 x 10 grid, 2-layer BERT, 24 dimensions."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = write_tokenizer(folder)
    (folder / "text_config.json").write_text(json.dumps(TEXT | {"vocab_size": tokens + 5}))
    text = {
        "hf_model_name": "our-own/miniature-bert",
        "hf_tokenizer_name": "our-own/miniature-bert",
        "proj": "mlp",
        "pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 48,
    }
    model = {"embed_dim": 24, "vision_cfg": vision or VISION, "text_cfg": text}
    preprocess = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    config = {"model_cfg": model, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    built = build_model(folder, model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name == "logit_scale":
                parameter.fill_(3.0)
            elif parameter.ndim > 1:
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5, generator=generator)
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    state = {name: tensor.contiguous() for name, tensor in built.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def build_model(folder: Path, model: dict[str, Any]) -> torch.nn.Module:
    """open_clip's own, plainly initialised module for a configuration in the released (old) keys."""
    text = {k: v for k, v in model["text_cfg"].items() if k not in ("proj", "pooler_type")}
    text |= {
        "hf_model_name": str(folder / "text_config.json"),
        "hf_model_pretrained": False,
        "hf_proj_type": model["text_cfg"]["proj"],
        "hf_pooler_type": model["text_cfg"]["pooler_type"],
    }
    return CustomTextCLIP(model["embed_dim"], dict(model["vision_cfg"]), text).eval()


def write_tokenizer(folder: Path) -> int:
    """A WordPiece tokenizer of whole common words and single letters; returns the number of its tokens."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = re.findall("[a-z]+", WORDS)
    marks = list(".,-/:()0123456789")
    vocabulary = dict.fromkeys([*SPECIAL, *letters, *("##" + letter for letter in letters), *words, *marks])
    table = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(table, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", table["[CLS]"]), ("[SEP]", table["[SEP]"])]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    names = ("pad", "unk", "cls", "sep", "mask")
    settings = {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 48} | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(vocabulary)
