"""What the tables and views of the embedding space, and those of doubt, mean: for the report's definitions."""

from __future__ import annotations

from typing import Any

from radlens.evaluate import neighbourhood, view
from radlens.evaluate.distance_table import FAR
from radlens.evaluate.distance_to_train import NEIGHBOURS

_MANY = float("inf")


def view_definitions(seed: int) -> list[dict[str, Any]]:
    """A definition of each view of `tables/embedding_view.csv`, with its parameters."""
    nothing = "Sizes of clusters and distances between them mean nothing; only who is near whom does."
    t_sne = (
        f"t-SNE with perplexity {view.PERPLEXITY:.0f} (a third of the images where these are fewer than 91), "
        f"{view.STEPS} steps from the principal components on, seed {seed}: images that are near in all dimensions are "
        f"placed near. {nothing} Another seed or perplexity gives another picture."
    )
    umap = (
        f"UMAP with {view.NEIGHBOURS} neighbours, least distance 0.1, from the principal components on, seed {seed}: a "
        f"graph of nearest neighbours laid out in the plane. {nothing}"
    )
    pca = (
        "The two directions of the un-normalised embeddings in which the images differ most (principal components). "
        "One scale on both axes: a distance here is one among the embeddings, less what lies in the other directions."
    )
    texts = {
        "pca": (pca, "Pearson, Philosophical Magazine 2 (1901) 559"),
        "t-sne": (t_sne, "van der Maaten and Hinton, JMLR 9 (2008) 2579"),
        "umap": (umap, "McInnes et al., arXiv 1802.03426"),
    }
    known = view.view_methods()
    return [_entry(method, "embedding_view", *texts[method], (-_MANY, _MANY)) for method in texts if method in known]


def space_definitions() -> list[dict[str, Any]]:
    """Definitions of the columns of the tables that the report shows of each embedding space, and of doubt."""
    conditional, near, compared = "conditional_separability", "neighbourhood", "spaces"
    doubt, seeds = "distance_to_train", "seed_ensemble"
    return [
        _entry(
            "ratio",
            conditional,
            "Mean distance between an image with the label and one without, over the mean distance within either kind; "
            "only between images of different patients that are alike in every other label. 1 where both lie alike.",
            "Szekely and Rizzo, J Stat Plann Inference 143 (2013) 1249",
            (0.0, _MANY),
        ),
        _entry(
            "ratio_unmatched",
            conditional,
            "The same ratio over all assessed images, with what other labels contribute.",
            "Szekely and Rizzo, J Stat Plann Inference 143 (2013) 1249",
            (0.0, _MANY),
        ),
        _entry(
            "knn_purity",
            near,
            f"Share of images with the label among the {neighbourhood.NEIGHBOURS} nearest images of other patients, "
            "the mean over the images with the label.",
            "mean over nearest neighbours",
            (0.0, 1.0),
        ),
        _entry(
            "knn_purity_baseline",
            near,
            "The share that neighbours drawn at random would give: images with the label among all of other patients.",
            "count",
            (0.0, 1.0),
        ),
        _entry(
            "silhouette_positives",
            near,
            "(b - a) / max(a, b) of an image with the label, a its mean distance to the other images with it, b to "
            "those without; the mean over the images with the label. 0 where both kinds lie alike.",
            "Rousseeuw, J Comput Appl Math 20 (1987) 53",
            (-1.0, 1.0),
        ),
        _entry(
            "linear_cka_debiased",
            compared,
            "How alike two spaces arrange the same images, whatever their rotation and scale: 1 alike, about 0 "
            "unrelated.",
            "Kornblith et al., ICML 2019; Song et al., JMLR 13 (2012) 1393",
            (-_MANY, 1.0),
        ),
        _entry(
            "centroid_drift_aligned",
            compared,
            "How far a label's centroid moved from the first space to the second, after the rotation that brings all "
            "images nearest, in units of the mean distance of the label's images to it; the mean over labels. Above 0 "
            "by chance alone where images are few.",
            "METHODS section 5",
            (0.0, _MANY),
        ),
        _entry(
            "farther",
            doubt,
            "Chance that a test image lies farther from the training images than a validation image, ties half: 0.5 "
            "where both come from one source.",
            "Mann and Whitney, Ann Math Stat 18 (1947) 50",
            (0.0, 1.0),
        ),
        _entry(
            "beyond",
            doubt,
            f"Share of test images that lie farther from the training images than {FAR:.0%} of the validation images: "
            f"{1 - FAR:.0%} where both come from one source.",
            "METHODS section 4",
            (0.0, 1.0),
        ),
        _entry(
            "error_auroc",
            doubt,
            "Chance that the image of a wrong decision lies farther from the training images than that of a right one, "
            "over all pairs of such decisions, ties half: 0.5 where distance says nothing of errors. Mahalanobis "
            "distance with shrunk covariance on embeddings as encoded; nearest: to the "
            f"{NEIGHBOURS}th nearest training image at unit length.",
            "Lee et al., NeurIPS 2018; Sun et al., ICML 2022",
            (0.0, 1.0),
        ),
        _entry(
            "ensemble",
            seeds,
            "The figure of the mean probability over the seeds, with thresholds chosen on validation for this mean.",
            "Lakshminarayanan et al., NeurIPS 2017",
            (-_MANY, _MANY),
        ),
        _entry(
            "gain",
            seeds,
            "Figure of the mean probability less the mean of the single seeds' figures, on the same resamples.",
            "paired bootstrap over patients",
            (-_MANY, _MANY),
        ),
        _entry(
            "disagreement",
            seeds,
            "Standard deviation of the probability between seeds, the mean over images and assessed labels.",
            "Lakshminarayanan et al., NeurIPS 2017",
            (0.0, 0.5),
        ),
        _entry(
            "disagreement_error_auroc",
            seeds,
            "Macro AUROC of the seeds' disagreement (mutual information) for a wrong decision of their mean; "
            "margin_error_auroc: of how near the mean probability lies to its threshold, which takes no second seed.",
            "Smith and Gal, UAI 2018",
            (0.0, 1.0),
        ),
    ]


def _entry(column: str, table: str, text: str, source: str, bounds: tuple[float, float]) -> dict[str, Any]:
    fixed = {"column": column, "scope": table, "table": table, "text": text, "direction": "none"}
    return fixed | {"bounds": bounds, "source": source}
