"""The real architecture with random weights against an independent rebuild, and the real weights where they lie."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import BertConfig, BertModel

from radlens.core.spec import ModelSpec
from radlens.core.store import Cache
from radlens.models.loading import load_encoder, resolve

TEXTS = ["this is a photo of chest X-ray", "no pleural effusion", "pneumonia " * 300]


class Rebuilt(nn.Module):
    """timm's ViT-B/16, transformers' BERT and three bare matrices, under the names of the released file."""

    def __init__(self) -> None:
        super().__init__()
        matrix = {"bias": False}
        self.visual = nn.ModuleDict({"trunk": timm.create_model("vit_base_patch16_224", num_classes=0)})
        self.visual["head"] = nn.ModuleDict({"proj": nn.Linear(768, 512, **matrix)})
        bert = BertModel(BertConfig(), add_pooling_layer=False)
        proj = nn.Sequential(nn.Linear(768, 640, **matrix), nn.GELU(), nn.Linear(640, 512, **matrix))
        self.text = nn.ModuleDict({"transformer": bert, "proj": proj})
        self.logit_scale = nn.Parameter(torch.tensor(4.4454))

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        trunk: Any = self.visual["trunk"]
        return trunk.forward_features(pixels)[:, 0] @ self.visual["head"]["proj"].weight.T  # type: ignore[index,no-any-return]

    def texts(self, ids: torch.Tensor) -> torch.Tensor:
        out = self.text["transformer"](ids, attention_mask=(ids != 0).long()).last_hidden_state
        return self.text["proj"](out[:, 0])  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_random_weights_equal_an_independent_rebuild(layout: str, shared: Path, tmp_path: Path) -> None:
    released = shared / "biomedclip"
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("open_clip_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(released / name, folder / name)
    torch.manual_seed(0)
    rebuilt = Rebuilt().eval()
    state = {name: tensor.contiguous() for name, tensor in rebuilt.state_dict().items()}
    assert sum(p.numel() for p in rebuilt.parameters()) == 195_902_721
    if layout == "safetensors":
        save_file(state, folder / "open_clip_model.safetensors")
    else:
        state["text.transformer.embeddings.position_ids"] = torch.arange(512)[None]
        torch.save(state, folder / "open_clip_pytorch_model.bin")
    encoder = load_encoder(resolve(ModelSpec(path=str(folder)), Path(), Cache(tmp_path / "cache")), "cpu")
    assert (encoder.grid, encoder.dimension, len(encoder.blocks)) == ((14, 14), 512, 12)
    assert encoder.logit_scale == pytest.approx(85.23, abs=0.01)
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode_images(pixels), rebuilt.images(pixels), atol=1e-5, rtol=1e-5)
        ids = encoder.tokenizer(TEXTS)  # type: ignore[attr-defined]
        assert ids.shape == (3, 256)
        assert 1 not in ids  # no unknown word
        torch.testing.assert_close(encoder.encode_texts(TEXTS), rebuilt.texts(ids), atol=1e-5, rtol=1e-5)
        short = encoder.encode_texts(TEXTS[:2])
        torch.testing.assert_close(short, rebuilt.texts(ids[:2]), atol=1e-6, rtol=1e-5)
    del encoder, rebuilt, state
    shutil.rmtree(folder)


@pytest.mark.slow
def test_the_published_probabilities(shared: Path, tmp_path: Path) -> None:
    if not os.environ.get("RADLENS_BIOMEDCLIP"):
        pytest.skip("RADLENS_BIOMEDCLIP names no folder with the real weights")
    golden = json.loads((shared / "biomedclip" / "golden_zero_shot.json").read_text())
    encoder = load_encoder(resolve(ModelSpec(name="biomedclip"), Path(), Cache(tmp_path / "cache")), "cpu")
    if encoder.card["weights"]["sha256"] != next(iter(golden["weights"]["known_sha256"])):
        pytest.skip("the weights are of another revision than the published probabilities")
    names = list(next(iter(golden["probabilities"].values())))
    folder = shared / "biomedclip" / "example_data" / "biomed_image_classification_example_data"
    with torch.inference_mode():
        texts = nn.functional.normalize(encoder.encode_texts([golden["template"] + name for name in names]), dim=-1)
        for file, expected in golden["probabilities"].items():
            pixels = torch.from_numpy(encoder.transform(np.asarray(Image.open(folder / file).convert("RGB"))))
            image = nn.functional.normalize(encoder.encode_images(pixels[None]), dim=-1)
            found = (encoder.logit_scale * image @ texts.T).softmax(-1)[0].tolist()
            np.testing.assert_allclose(found, [expected[name] for name in names], atol=1e-3, err_msg=file)
