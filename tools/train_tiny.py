"""Train `radlens-tiny`, a BiomedCLIP in miniature, on phantoms of the source site only.

    python tools/train_tiny.py --work WORK --out src/radlens/models/tiny [--minutes 55] [--nih ../shared/nih_dev]

WORK holds the rendered phantoms, so that a second call starts training at once. The model is open_clip's
CustomTextCLIP with a timm ViT (12 blocks, 224 px, 14x14 patches) and a small BERT, saved in the layout of BiomedCLIP's
release in half precision. What is minimised:

- image against sentence pairs: for every label one sentence that states it and one that denies it (the zero-shot
  logit), binary cross-entropy with positives weighted up;
- image against reports: symmetric InfoNCE over the batch, reports of equal label sets counting as
  equal (a tenth of the weight);
- patch against sentence pairs: the same logit at each patch token, the target being the share of the patch that the
  phantom's exact mask covers.

At the end the card gets the measured zero-shot macro AUROC on unseen phantoms of the source site and of the shifted
site, and on a folder of real radiographs when `--nih` names one.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import BertConfig

from radlens.core.store import fingerprint, source_digest, writing
from radlens.core.transform import ImageTransform
from radlens.core.vocabulary import load_vocabulary
from radlens.data.phantom import FINDINGS, SHIFTED, SOURCE, Site, render_many

VOCABULARY = load_vocabulary("chexpert-14")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
ENRICHED = dict.fromkeys(FINDINGS, 0.12)
CONTEXT = 64

# Other ways to state and to deny each label, beside the vocabulary's prompts.
NOUNS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": ("an enlarged cardiomediastinum", "a widened mediastinum", "mediastinal widening"),
    "Cardiomegaly": ("cardiomegaly", "an enlarged heart", "enlargement of the cardiac silhouette"),
    "Lung Opacity": ("a lung opacity", "hazy opacity", "ground-glass opacity"),
    "Lung Lesion": ("a lung lesion", "a lung nodule", "a mass"),
    "Edema": ("pulmonary edema", "edema", "vascular congestion"),
    "Consolidation": ("consolidation", "lobar consolidation", "air bronchograms"),
    "Pneumonia": ("pneumonia", "patchy airspace disease", "infection of the lung"),
    "Atelectasis": ("atelectasis", "basal atelectasis", "volume loss"),
    "Pneumothorax": ("a pneumothorax", "pneumothorax", "free pleural air"),
    "Pleural Effusion": ("a pleural effusion", "pleural fluid", "effusion"),
    "Pleural Other": ("pleural thickening", "a pleural plaque", "an apical cap"),
    "Fracture": ("a rib fracture", "a fracture", "a broken rib"),
    "Support Devices": ("support devices", "a catheter", "a pacemaker"),
}
STATE = ("there is {}", "chest X-ray showing {}", "X-ray with {}", "{} is seen", "{}")
DENY = ("there is no {}", "chest X-ray without {}", "no evidence of {}", "no {}")


def sentences() -> tuple[list[list[str]], list[list[str]]]:
    """For each label, the sentences that state it and those that deny it."""
    stating, denying = [], []
    for label in VOCABULARY.labels:
        nouns = NOUNS.get(label.name, ())
        bare = [noun.removeprefix("a ").removeprefix("an ") for noun in nouns]
        stating.append([*label.positive, *(t.format(n) for n in nouns for t in STATE)])
        denying.append([*label.negative, *(t.format(n) for n in bare for t in DENY)])
        if label.name == VOCABULARY.no_finding:
            stating[-1] += ["normal chest X-ray", "no finding", "No Finding", "no acute abnormality", "clear lungs"]
            denying[-1] += ["abnormal chest X-ray", "there is a finding", "acute abnormality"]
        else:
            stating[-1].append(label.name)
    return stating, denying


def phantoms(work: Path, name: str, seed: int, count: int, site: Site, workers: int) -> dict[str, Any]:
    """Rendered once, kept in `work`: images (N, 224, 224), masks (N, 13, 28, 28) in 1/255, labels (N, 14), reports."""
    drawing = fingerprint(seed, asdict(site), source_digest("radlens.data.phantom"))
    path = work / f"{name}-{count}-{drawing[:12]}.npz"
    if not path.is_file():
        started = time.time()
        shrink = ImageTransform(224, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        images = np.zeros((count, 224, 224), np.uint8)
        masks = np.zeros((count, len(FINDINGS), 28, 28), np.uint8)
        labels = np.zeros((count, len(VOCABULARY)), np.uint8)
        reports = []
        for i, phantom in enumerate(render_many(seed, range(count), site, 256, workers)):
            images[i] = np.round(shrink(phantom.pixels)[0] * 255)
            for finding, mask in phantom.masks.items():
                small = Image.fromarray(mask.astype(np.uint8) * 255).resize((28, 28), Image.Resampling.BOX)
                masks[i, FINDINGS.index(finding)] = np.asarray(small)
            labels[i] = [phantom.labels[label] for label in VOCABULARY.names]
            reports.append(phantom.report)
            if i % 2000 == 1999:
                print(f"{name}: {i + 1} of {count} phantoms, {(i + 1) / (time.time() - started):.0f}/s", flush=True)
        with writing(path) as aside, aside.open("wb") as file:
            np.savez(file, images=images, masks=masks, labels=labels, reports=np.array(reports))
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def make_tokenizer(texts: list[str], folder: Path) -> Tokenizer:
    """A small lower-case WordPiece tokenizer in BERT's layout, trained on our own sentences."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789-.,;:()/'%")
    trainer = trainers.WordPieceTrainer(
        vocab_size=640, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*texts, *(" ".join(alphabet) for _ in range(9))], trainer)
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", tokenizer.token_to_id("[SEP]")), ("[CLS]", tokenizer.token_to_id("[CLS]"))
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in words), "utf-8")
    names = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
    tokens = {f"{key}_token": value for key, value in names.items()}
    (folder / "special_tokens_map.json").write_text(json.dumps(tokens, indent=2) + "\n", "utf-8")
    settings = tokens | {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": CONTEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    return tokenizer


def make_model(words: int, folder: Path, seed: int) -> torch.nn.Module:
    """CustomTextCLIP in BiomedCLIP's layout; writes the configuration files."""
    bert = BertConfig(
        vocab_size=words,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=192,
        max_position_embeddings=CONTEXT,
    )
    (folder / "text_config.json").write_text(bert.to_json_string(use_diff=False), "utf-8")
    text = {
        "hf_model_name": "radlens-tiny-text",
        "hf_tokenizer_name": "radlens-tiny-text",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": CONTEXT,
    }
    vision = {
        "timm_model_name": "vit_tiny_patch16_224",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    }
    config = {
        "model_cfg": {"embed_dim": 128, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": MEAN, "std": STD},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as local:
        (Path(local) / "config.json").write_text(bert.to_json_string(use_diff=False), "utf-8")
        local_text = text | {"hf_model_name": local, "hf_tokenizer_name": local, "hf_model_pretrained": False}
        return open_clip.model.CustomTextCLIP(
            128, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**local_text)
        )


class Texts:
    """Tokenised sentences, padded only as far as the longest needs."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, texts: list[str]) -> Tensor:
        self.tokenizer.enable_truncation(CONTEXT)
        self.tokenizer.enable_padding(pad_id=0)
        return torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(texts)])


def augment(images: Tensor, masks: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Small turns, shifts and zooms (never a flip: left is not right), exposure and noise.

    images uint8 (B, 224, 224), masks uint8 (B, 13, 28, 28) -> float (B, 3, size, size) normalised, (B, 13, g, g).
    """
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    angle, zoom = uniform(-0.07, 0.07), uniform(0.9, 1.1)
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    entries = [cosine, -sine, uniform(-0.08, 0.08), sine, cosine, uniform(-0.08, 0.08)]
    theta = torch.stack(entries, 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [count, 1, size, size], align_corners=False)
    turned = F.grid_sample(images[:, None].float() / 255, grid, align_corners=False)
    cells = size // 16
    coarse = F.affine_grid(theta, [count, 1, 2 * cells, 2 * cells], align_corners=False)
    moved = F.avg_pool2d(F.grid_sample(masks.float() / 255, coarse, align_corners=False), 2)
    gamma = uniform(0.75, 1.33)[:, None, None, None]
    contrast = uniform(0.85, 1.15)[:, None, None, None]
    shift = uniform(-0.08, 0.08)[:, None, None, None]
    exposed = (turned.clamp(1e-4, 1) ** gamma - 0.5) * contrast + 0.5 + shift
    noisy = exposed + torch.randn(exposed.shape, generator=generator) * 0.02
    return normalised(noisy.clamp(0, 1)), moved


def normalised(grey: Tensor) -> Tensor:
    """(B, 1, H, W) in [0, 1] -> (B, 3, H, W) as the model wants it."""
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return (grey - mean) / std


def tokens_of(model: Any, pixels: Tensor) -> Tensor:
    """(B, 3, s, s) -> projected, un-normalised tokens (B, 1 + patches, 128); positions resampled for s < 224."""
    trunk = model.visual.trunk
    x = trunk.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
    cells = pixels.shape[-1] // 16
    place, patches = trunk.pos_embed[:, :1], trunk.pos_embed[:, 1:]
    if cells != 14:
        square = patches.view(1, 14, 14, -1).permute(0, 3, 1, 2)
        square = F.interpolate(square, (cells, cells), mode="bilinear", align_corners=False, antialias=True)
        patches = square.flatten(2).transpose(1, 2)
    x = torch.cat([(trunk.cls_token + place).expand(len(x), -1, -1), x + patches], 1)
    return model.visual.head(trunk.norm(trunk.blocks(x)))


def weighted_bce(logits: Tensor, targets: Tensor, positive_weight: Tensor) -> Tensor:
    weight = torch.where(targets > 0, 1 + (positive_weight - 1) * targets, torch.ones_like(targets))
    return F.binary_cross_entropy_with_logits(logits, targets, weight)


@torch.no_grad()
def zero_shot(model: Any, texts: Texts, images: np.ndarray, batch: int = 64) -> np.ndarray:
    """Pair scores (N, 14) with the vocabulary's own prompts; images uint8 (N, 224, 224)."""
    model.eval()
    weight = []
    for label in VOCABULARY.labels:
        stated = F.normalize(model.encode_text(texts(list(label.positive))), dim=-1).mean(0)
        denied = F.normalize(model.encode_text(texts(list(label.negative))), dim=-1).mean(0)
        weight.append(stated - denied)
    scores = []
    for start in range(0, len(images), batch):
        pixels = normalised(torch.from_numpy(images[start : start + batch])[:, None].float() / 255)
        with torch.autocast("cpu", torch.bfloat16):
            embedded = tokens_of(model, pixels)[:, 0]
        scores.append(F.normalize(embedded.float(), dim=-1) @ torch.stack(weight).T)
    model.train()
    return torch.cat(scores).numpy()


def macro_auroc(scores: np.ndarray, targets: np.ndarray) -> tuple[float, dict[str, float]]:
    """Mean over labels with both classes among the assessed (not NaN) images, and each label's own."""
    each = {}
    for column, label in enumerate(VOCABULARY.names):
        known = ~np.isnan(targets[:, column])
        if len(np.unique(targets[known, column])) == 2:
            each[label] = float(roc_auc_score(targets[known, column], scores[known, column]))
    return float(np.mean(list(each.values()))), each


def train(model: Any, texts: Texts, data: dict[str, Any], check: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Minimise the three losses for `--minutes`, the first `--small` share of them at 160 px."""
    generator = torch.Generator().manual_seed(arguments.seed)
    choose = np.random.default_rng(arguments.seed)
    stating, denying = sentences()
    labels = torch.from_numpy(data["labels"]).float()
    positive = labels.mean(0).clamp(0.01, 0.99)
    global_weight = ((1 - positive) / positive).clamp(1, 8)
    covered = torch.from_numpy(data["masks"].mean((0, 2, 3)) / 255).float().view(1, -1, 1)
    # each label's covered and uncovered patches weigh the same in all, up to a limit that keeps single patches small
    inside, outside = (0.5 / covered).clamp(max=120), 0.5 / (1 - covered)
    decayed = [p for n, p in model.named_parameters() if p.ndim >= 2 and "pos_embed" not in n]
    plain = [p for n, p in model.named_parameters() if p.ndim < 2 or "pos_embed" in n]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    finding_columns = [VOCABULARY.index(name) for name in FINDINGS]
    budget, started, step, said, running = arguments.minutes * 60, time.time(), 0, time.time(), 0.0
    order: list[int] = []
    while (gone := (time.time() - started) / budget) < 1:
        size = 160 if gone < arguments.small else 224
        rate = arguments.rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * gone)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        if len(order) < arguments.batch:
            order = choose.permutation(len(labels)).tolist()
        rows, order = order[: arguments.batch], order[arguments.batch :]
        pixels, masks = augment(
            torch.from_numpy(data["images"][rows]), torch.from_numpy(data["masks"][rows]), size, generator
        )
        target = labels[rows]
        pairs = [choose.choice(s) for s in stating] + [choose.choice(d) for d in denying]
        told = F.normalize(model.encode_text(texts([str(t) for t in pairs])), dim=-1)
        direction = told[:14] - told[14:]
        reports = F.normalize(model.encode_text(texts([str(t) for t in data["reports"][rows]])), dim=-1)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = tokens_of(model, pixels)
        tokens = F.normalize(tokens.float(), dim=-1)
        scale = model.logit_scale.exp().clamp(max=100)
        whole = weighted_bce(scale * tokens[:, 0] @ direction.T, target, global_weight)
        same = (target[:, None] == target[None]).all(-1).float()
        same = same / same.sum(1, keepdim=True)
        similarity = scale * tokens[:, 0] @ reports.T
        matching = (F.cross_entropy(similarity, same) + F.cross_entropy(similarity.T, same)) / 2
        patches = (scale * tokens[:, 1:] @ direction[finding_columns].T).transpose(1, 2)
        share = masks.flatten(2)
        local = (inside * share * F.softplus(-patches) + outside * (1 - share) * F.softplus(patches)).mean()
        loss = whole + 0.1 * matching + local
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        running = 0.98 * running + 0.02 * loss.item() if step > 1 else loss.item()
        if time.time() - said > arguments.say:
            said = time.time()
            torch.save(model.state_dict(), arguments.work / "last.pt")
            auroc, each = macro_auroc(zero_shot(model, texts, check["images"]), check["labels"].astype(float))
            low = ", ".join(f"{k} {v:.2f}" for k, v in sorted(each.items(), key=lambda item: item[1])[:5])
            print(
                f"{(said - started) / 60:5.1f} min  step {step}  {step * arguments.batch / (said - started):.0f}/s  "
                f"loss {running:.3f}  whole {whole.item():.3f} match {matching.item():.3f} local {local.item():.3f}  "
                f"scale {scale.item():.1f}  source AUROC {auroc:.3f}  ({low})",
                flush=True,
            )
    arguments.steps = step


def measure(model: Any, texts: Texts, arguments: argparse.Namespace) -> dict[str, Any]:
    """Zero-shot macro AUROC on unseen phantoms of both sites and on real radiographs."""
    found: dict[str, Any] = {}
    for name, seed, site in (("source", 7001, SOURCE), ("shifted", 7002, SHIFTED)):
        data = phantoms(arguments.work, f"test-{name}", seed, 1500, site.with_prevalence(ENRICHED), arguments.workers)
        found[name] = macro_auroc(zero_shot(model, texts, data["images"]), data["labels"].astype(float))
    if arguments.nih is not None:
        import polars as pl

        table = pl.read_csv(arguments.nih / "labels.csv")
        shrink = ImageTransform(224, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        images = [
            np.round(shrink(np.asarray(Image.open(arguments.nih / "images" / name).convert("L")))[0] * 255)
            for name in table["image"]
        ]
        targets = table.select(pl.col(name).cast(pl.Float64, strict=False) for name in VOCABULARY.names).to_numpy()
        found["nih_dev"] = macro_auroc(zero_shot(model, texts, np.stack(images).astype(np.uint8)), targets)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nih", type=Path)
    parser.add_argument("--minutes", type=float, default=55.0)
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=7e-4)
    parser.add_argument("--small", type=float, default=0.0, help="share of the time spent at 160 px")
    parser.add_argument("--say", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    enriched = SOURCE.with_prevalence(ENRICHED)
    data = phantoms(arguments.work, "train", 1000, arguments.images, enriched, arguments.workers)
    check = phantoms(arguments.work, "check", 2000, 600, enriched, arguments.workers)
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        stating, denying = sentences()
        own = [text for group in (*stating, *denying) for text in group]
        texts = Texts(make_tokenizer([*own, *map(str, data["reports"])], folder))
        model = make_model(texts.tokenizer.get_vocab_size(), folder, arguments.seed)
        model.logit_scale.data.fill_(math.log(15.0))
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{parameters:,} parameters, {len(data['labels'])} phantoms, shares {data['labels'].mean(0).round(2)}")
        started = time.time()
        train(model, texts, data, check, arguments)
        seconds = time.time() - started
        half = {
            name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()
        }
        save_file({name: tensor.contiguous() for name, tensor in half.items()}, folder / "open_clip_model.safetensors")
        model.load_state_dict({name: tensor.float() for name, tensor in half.items()}, strict=False)
        found = measure(model, texts, arguments)
        facts = {
            "parameters": parameters,
            "phantoms": len(data["labels"]),
            "steps": arguments.steps,
            "batch": arguments.batch,
            "minutes": round(seconds / 60, 1),
            "torch": torch.__version__,
            "zero_shot_macro_auroc": {name: round(value[0], 3) for name, value in found.items()},
            "zero_shot_auroc": {name: {k: round(v, 3) for k, v in value[1].items()} for name, value in found.items()},
        }
        (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
        arguments.out.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            shutil.copyfile(file, arguments.out / file.name)
        print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
